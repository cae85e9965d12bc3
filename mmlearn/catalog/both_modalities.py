"""The systems of chapter 5."""

from mmlearn.catalog.entry import Configuration, System

SYSTEMS: tuple[System, ...] = (
    System(
        name="Flamingo",
        section="5.3",
        paper="Alayrac et al. (2022), Flamingo: a Visual Language Model for Few-Shot Learning, NeurIPS, "
              "arXiv:2204.14198; Awadalla et al. (2023), OpenFlamingo, arXiv:2308.01390",
        module="mmlearn.both_modalities.flamingo",
        model="mmlearn.both_modalities.flamingo:FlamingoAdapter",
        configurations=(
            Configuration("flamingo_3b", "mmlearn.both_modalities.flamingo:FlamingoConfig.flamingo_3b",
                          1_351_459_376, "by the sizes of the paper's appendix, which states 194M and 1.2B"),
            Configuration("flamingo_9b", "mmlearn.both_modalities.flamingo:FlamingoConfig.flamingo_9b",
                          1_997_351_444, "by the sizes of the paper's appendix, which states 194M and 1.6B"),
            Configuration("flamingo_80b", "mmlearn.both_modalities.flamingo:FlamingoConfig.flamingo_80b",
                          8_549_087_768, "by the sizes of the paper's appendix, which states 194M and 10B"),
            Configuration("openflamingo_3b",
                          "mmlearn.both_modalities.flamingo:FlamingoConfig.openflamingo_3b",
                          944_019_504, "by the sizes that arXiv:2308.01390 and its code state"),
            Configuration("openflamingo_4b",
                          "mmlearn.both_modalities.flamingo:FlamingoConfig.openflamingo_4b",
                          960_763_936, "by the sizes that arXiv:2308.01390 and its code state"),
            Configuration("openflamingo_9b",
                          "mmlearn.both_modalities.flamingo:FlamingoConfig.openflamingo_9b",
                          1_178_834_960, "by the sizes that arXiv:2308.01390 and its code state"),
            Configuration("mini", "mmlearn.both_modalities.flamingo:FlamingoConfig.mini"),
        ),
        oracle="flamingo_pytorch and open_flamingo: resampler and gated block, with their activation and the "
               "paper's; transformers' Idefics: resampler, masks and gates",
        weights="openflamingo/OpenFlamingo-3B-vitl-mpt1b, -4B-vitl-rpj3b and -9B-vitl-mpt7b, in the layout "
                "of open_flamingo",
    ),
)
