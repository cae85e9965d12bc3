"""The systems of chapter 5."""

from mmlearn.catalog.entry import Configuration, System

SYSTEMS: tuple[System, ...] = (
    System(
        name="ViLBERT",
        section="5.2",
        paper="Lu, Batra, Parikh and Lee (2019), ViLBERT: Pretraining Task-Agnostic Visiolinguistic "
              "Representations for Vision-and-Language Tasks, NeurIPS, arXiv:1908.02265",
        module="mmlearn.both_modalities.vilbert",
        model="mmlearn.both_modalities.vilbert_pretraining:ViLBERTForPreTraining",
        configurations=(
            Configuration("base", "mmlearn.both_modalities.vilbert:ViLBERTConfig.base", 239_023_229,
                          "counted layer by layer in the released sizes: 235,705,856 of encoder and poolers, "
                          "3,317,373 of heads (250,044,029 in the released file, with 11,020,800 numbers "
                          "that compute nothing)"),
            Configuration("depth_2", "mmlearn.both_modalities.vilbert:ViLBERTConfig.depth_2"),
            Configuration("depth_4", "mmlearn.both_modalities.vilbert:ViLBERTConfig.depth_4"),
            Configuration("depth_8", "mmlearn.both_modalities.vilbert:ViLBERTConfig.depth_8"),
            Configuration("mini", "mmlearn.both_modalities.vilbert:ViLBERTConfig.mini"),
        ),
        oracle="plain torch with the released names, written on its own (pre-training and task heads); "
               "torch.nn.MultiheadAttention for both directions of co-attention; the formulas by loops",
        weights="jiasenlu/vilbert_beta (after pre-training and after each task), "
                "facebookresearch/vilbert-multi-task's pretrained_model.bin (MIT)",
    ),
)
