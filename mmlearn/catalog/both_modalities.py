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
            Configuration("flamingo_3b", "mmlearn.both_modalities.flamingo:FlamingoConfig.flamingo_3b"),
            Configuration("flamingo_9b", "mmlearn.both_modalities.flamingo:FlamingoConfig.flamingo_9b"),
            Configuration("flamingo_80b", "mmlearn.both_modalities.flamingo:FlamingoConfig.flamingo_80b"),
            Configuration("openflamingo_3b",
                          "mmlearn.both_modalities.flamingo:FlamingoConfig.openflamingo_3b"),
            Configuration("openflamingo_4b",
                          "mmlearn.both_modalities.flamingo:FlamingoConfig.openflamingo_4b"),
            Configuration("openflamingo_9b",
                          "mmlearn.both_modalities.flamingo:FlamingoConfig.openflamingo_9b"),
            Configuration("mini", "mmlearn.both_modalities.flamingo:FlamingoConfig.mini"),
        ),
        oracle="flamingo_pytorch and open_flamingo: resampler and gated block, with their activation and the "
               "paper's; transformers' Idefics: resampler, masks and gates",
        weights="openflamingo/OpenFlamingo-3B-vitl-mpt1b, -4B-vitl-rpj3b and -9B-vitl-mpt7b, in the layout of "
                "open_flamingo",
    ),
)
