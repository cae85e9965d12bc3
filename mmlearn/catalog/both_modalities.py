"""The systems of chapter 5."""

from mmlearn.catalog.entry import Configuration, System

SYSTEMS: tuple[System, ...] = (
    System(
        name="data2vec",
        section="5.1",
        paper="Baevski et al. (2022), data2vec: A General Framework for Self-supervised Learning in Speech, "
              "Vision and Language, ICML, arXiv:2202.03555",
        module="mmlearn.both_modalities.data2vec",
        oracle="the formulas by loops; torch.nn.functional's smooth_l1_loss and instance_norm",
    ),
    System(
        name="data2vec text",
        section="5.1",
        paper="Baevski et al. (2022), data2vec: A General Framework for Self-supervised Learning in Speech, "
              "Vision and Language, ICML, arXiv:2202.03555",
        module="mmlearn.both_modalities.data2vec_text",
        model="mmlearn.both_modalities.data2vec_text:Data2VecText",
        configurations=(
            Configuration("base", "mmlearn.both_modalities.data2vec_text:Data2VecTextConfig.base",
                          124_055_040, "transformers.Data2VecTextModel without its pooler"),
            Configuration("large", "mmlearn.both_modalities.data2vec_text:Data2VecTextConfig.large",
                          354_310_144, "transformers.Data2VecTextModel without its pooler, at the large size "
                                       "of the paper"),
            Configuration("mini", "mmlearn.both_modalities.data2vec_text:Data2VecTextConfig.mini"),
        ),
        oracle="transformers.Data2VecTextModel, Data2VecTextForSequenceClassification",
        weights="facebook/data2vec-text-base (MIT)",
    ),
)
