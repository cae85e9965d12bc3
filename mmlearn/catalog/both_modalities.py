"""The systems of chapter 5: models for both modalities, and what stands beside them."""

from mmlearn.catalog.entry import Configuration, System

SYSTEMS: tuple[System, ...] = (
    System(
        name="Recurrent attention captioner",
        section="5.3",
        paper="Lu et al. (2017), Knowing When to Look: Adaptive Attention via A Visual Sentinel for Image "
              "Captioning, CVPR, arXiv:1612.01887; Xu et al. (2015), Show, Attend and Tell, ICML, "
              "arXiv:1502.03044",
        module="mmlearn.both_modalities.attention_captioner",
        model="mmlearn.both_modalities.attention_captioner:RecurrentAttentionCaptioner",
        configurations=tuple(
            Configuration(name,
                          f"mmlearn.both_modalities.attention_captioner:AttentionCaptionerConfig.{name}")
            for name in ("spatial", "adaptive", "deep", "mini")),
        oracle="the formulas by loops, the LSTM's gates written out",
    ),
    System(
        name="Show, Attend and Tell",
        section="5.3",
        paper="Xu et al. (2015), Show, Attend and Tell: Neural Image Caption Generation with Visual "
              "Attention, ICML, arXiv:1502.03044",
        module="mmlearn.both_modalities.show_attend_tell",
        model="mmlearn.both_modalities.show_attend_tell:ShowAttendTell",
        configurations=tuple(
            Configuration(name, f"mmlearn.both_modalities.show_attend_tell:ShowAttendTellConfig.{name}")
            for name in ("coco", "mini")),
        oracle="the formulas by loops, the LSTM's gates written out",
    ),
    System(
        name="Walker",
        section="5",
        paper="Anderson et al. (2018), Vision-and-Language Navigation, CVPR, arXiv:1711.07280; Fried et al. "
              "(2018), Speaker-Follower Models, NeurIPS, arXiv:1806.02724",
        module="mmlearn.both_modalities.walker",
        model="mmlearn.both_modalities.walker:Walker",
        configurations=(Configuration("mini", "mmlearn.both_modalities.walker:WalkerConfig.mini"),),
        oracle="the formulas by loops; distances of scipy",
    ),
    System(
        name="Fusion of three modalities",
        section="5",
        paper="Zadeh et al. (2017), Tensor Fusion Network for Multimodal Sentiment Analysis, EMNLP, "
              "arXiv:1707.07250; Poria et al. (2017), A Review of Affective Computing, Information Fusion 37",
        module="mmlearn.both_modalities.affect_fusion",
        model="mmlearn.both_modalities.affect_fusion:AffectFusion",
        configurations=(Configuration("mini", "mmlearn.both_modalities.affect_fusion:AffectConfig.mini"),),
        oracle="the formulas by loops; scikit-learn's F1",
    ),
)
