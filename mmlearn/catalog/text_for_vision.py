"""The systems of chapter 4."""

from mmlearn.catalog.entry import Configuration, System

SYSTEMS: tuple[System, ...] = (
    System(
        name="Contrastive losses",
        section="4.2",
        paper="van den Oord et al. (2018), Representation Learning with Contrastive Predictive Coding, "
              "arXiv:1807.03748; "
              "Zhang et al. (2020), ConVIRT, arXiv:2010.00747; Chen et al. (2020), SimCLR, arXiv:2002.05709; "
              "Yeh et al. "
              "(2021), Decoupled Contrastive Learning, arXiv:2110.06848",
        module="mmlearn.text_for_vision.contrastive",
        oracle="open_clip.loss.ClipLoss, the loss of transformers.CLIPModel, Gaussians of known information",
        equations=("eq:partner-posterior", "eq:contrastive-logits", "eq:info-nce", "eq:clip-loss",
                   "eq:clip-gradient", "eq:survey-contrastive", "eq:decoupled", "eq:info-nce-gradient",
                   "eq:decoupled-gradient", "eq:mi-bound", "eq:partner-weight", "eq:mi-leave-one-out",
                   "eq:gaussian-mi", "eq:gaussian-ratio", "eq:embedding-gradient", "eq:loss-floor",
                   "eq:simplex-floor", "eq:temperature-gradient", "eq:negative-weights", "eq:cold-limit",
                   "eq:hot-limit", "eq:nt-xent", "eq:convirt", "eq:fewer-negatives"),
    ),
    System(
        name="Large contrastive batches",
        section="4.2",
        paper="Gao et al. (2021), Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup, "
              "arXiv:2101.06983; "
              "Milakov and Gimelshein (2018), Online normalizer calculation for softmax, arXiv:1805.02867",
        module="mmlearn.text_for_vision.large_batch",
        oracle="one process on the whole batch; open_clip.loss.ClipLoss",
        equations=("eq:running-logsumexp", "eq:gradient-cache", "eq:local-loss"),
    ),
    System(
        name="Captions as supervision: write, predict, recognise",
        section="4.2",
        paper="Radford et al. (2021), arXiv:2103.00020, fig. 2; Joulin et al. (2016), Learning Visual "
              "Features from Large "
              "Weakly Supervised Data, arXiv:1511.02251; Desai and Johnson (2021), VirTex, arXiv:2006.06666",
        module="mmlearn.text_for_vision.prediction",
        oracle="the formulas by loops",
        equations=("eq:bow", "eq:bow-loss", "eq:bow-score", "eq:cbow", "eq:lm-score"),
    ),
    System(
        name="Modality gap, alignment, uniformity",
        section="4.2.1",
        paper="Liang et al. (2022), Mind the Gap, arXiv:2203.02053; Wang and Isola (2020), Understanding "
              "Contrastive "
              "Representation Learning through Alignment and Uniformity on the Hypersphere, arXiv:2005.10242",
        module="mmlearn.metrics.embedding_space",
        oracle="the definitions by loops",
        equations=("eq:modality-gap", "eq:alignment", "eq:uniformity"),
    ),
    System(
        name="Zero-shot classification, linear probe, retrieval",
        section="4.2.1",
        paper="Radford et al. (2021), arXiv:2103.00020, sec. 3 and 5, app. A and C",
        module="mmlearn.text_for_vision.zero_shot",
        oracle="open_clip's zero-shot classifier and image transform; scikit-learn's logistic regression; "
               "scipy's intervals",
        equations=("eq:zero-shot-weights", "eq:zero-shot-posterior", "eq:linear-probe", "eq:labels-worth",
                   "eq:retrieval-rank", "eq:recall-at-k", "eq:binomial-tail", "eq:clopper-pearson",
                   "eq:clip-standardise"),
    ),
    System(
        name="Effective robustness",
        section="4.2.1",
        paper="Taori et al. (2020), Measuring Robustness to Natural Distribution Shifts in Image "
              "Classification, arXiv:2007.00644",
        module="mmlearn.metrics.robustness",
        oracle="the formulas by loops",
        equations=("eq:accuracy-logit", "eq:robustness-fit", "eq:robustness-line", "eq:effective-robustness",
                   "eq:relative-robustness"),
    ),
    System(
        name="CLIP",
        section="4.2.2",
        paper="Radford et al. (2021), Learning Transferable Visual Models From Natural Language Supervision, "
              "ICML, "
              "arXiv:2103.00020",
        module="mmlearn.text_for_vision.clip",
        model="mmlearn.text_for_vision.clip:CLIP",
        command="clip",
        trainer="mmlearn.cli.train_clip",
        configurations=(
            *(Configuration(name, f"mmlearn.text_for_vision.clip:CLIPConfig.{name}", count,
                            "counted in the authors' code, openai/CLIP")
              for name, count in (("rn50", 102_007_137), ("rn101", 119_688_033), ("rn50x4", 178_300_601),
                                  ("rn50x16", 290_979_217), ("rn50x64", 623_258_305),
                                  ("vit_b32", 151_277_313), ("vit_b16", 149_620_737),
                                  ("vit_l14", 427_616_513), ("vit_l14_336", 427_944_193))),
            Configuration("mini", "mmlearn.text_for_vision.clip:CLIPConfig.mini"),
            Configuration("mini_resnet", "mmlearn.text_for_vision.clip:CLIPConfig.mini_resnet"),
        ),
        oracle="open_clip.CLIP, transformers.CLIPModel",
        weights="openai/clip-vit-base-patch32 and eight more of OpenAI (MIT); OpenCLIP's of the same shapes",
        equations=("eq:quick-gelu", "eq:pre-norm", "eq:vit-embed", "eq:attention-pool-tokens",
                   "eq:attention-pool", "eq:eot-pooling", "eq:scale-clamp", "eq:attention-rollout"),
    ),
    System(
        name="ALIGN",
        section="4.3.1",
        paper="Jia et al. (2021), Scaling Up Visual and Vision-Language Representation Learning With Noisy "
              "Text Supervision, "
              "ICML, arXiv:2102.05918",
        module="mmlearn.text_for_vision.align",
        model="mmlearn.text_for_vision.align:ALIGN",
        configurations=(
            Configuration("paper", "mmlearn.text_for_vision.align:ALIGNConfig.paper"),
            Configuration("base", "mmlearn.text_for_vision.align:ALIGNConfig.base", 172_117_841,
                          "counted in transformers.AlignModel, kakaobrain/align-base"),
            Configuration("ablation", "mmlearn.text_for_vision.align:ALIGNConfig.ablation"),
            Configuration("mini", "mmlearn.text_for_vision.align:ALIGNConfig.mini"),
        ),
        oracle="transformers.AlignModel, transformers.BertModel, torchvision's EfficientNet",
        weights="kakaobrain/align-base, trained by others on COYO-700M; the authors published none",
        equations=("eq:smoothed-targets", "eq:align-loss", "eq:smoothed-margin", "eq:smoothed-floor",
                   "eq:smoothed-gradient", "eq:sigma-gradient", "eq:compose-query", "eq:lamb",
                   "eq:bert-embed", "eq:efficientnet-width"),
    ),
    System(
        name="Florence",
        section="4.4",
        paper="Yuan et al. (2021), Florence: A New Foundation Model for Computer Vision, arXiv:2111.11432; "
              "Yang et al. (2022), "
              "Unified Contrastive Learning in Image-Text-Label Space, CVPR, arXiv:2204.03610",
        module="mmlearn.text_for_vision.florence",
        model="mmlearn.text_for_vision.florence:Florence",
        configurations=tuple(Configuration(name, f"mmlearn.text_for_vision.florence:FlorenceConfig.{name}")
                             for name in ("paper", "unicl_swin_t", "unicl_swin_b", "mini")),
        oracle="timm's and transformers' Swin, transformers.CvtModel; UniCL's loss by a double loop",
        weights="microsoft/UniCL for the two UniCL sizes; none for Florence",
        equations=("eq:unicl-positives", "eq:unicl-images", "eq:unicl-texts", "eq:unicl-loss",
                   "eq:unicl-targets", "eq:unicl-matrix", "eq:unicl-gradient", "eq:unicl-floor",
                   "eq:unicl-classifier", "eq:window-attention", "eq:relative-bias", "eq:relative-index",
                   "eq:shift-mask", "eq:patch-merging", "eq:inflation"),
    ),
    System(
        name="Dynamic Head",
        section="4.4.1",
        paper="Dai et al. (2021), Dynamic Head: Unifying Object Detection Heads with Attentions, CVPR, "
              "arXiv:2106.08322",
        module="mmlearn.text_for_vision.dynamic_head",
        model="mmlearn.text_for_vision.dynamic_head:DynamicHead",
        configurations=(
            Configuration("paper", "mmlearn.text_for_vision.dynamic_head:DynamicHeadConfig.paper"),
            Configuration("mini", "mmlearn.text_for_vision.dynamic_head:DynamicHeadConfig.mini"),
        ),
        oracle="torchvision.ops.deform_conv2d; the formulas by loops",
        equations=("eq:scale-attention", "eq:hard-sigmoid", "eq:moved-places", "eq:spatial-attention",
                   "eq:channel-attention"),
    ),
    System(
        name="SigLIP and LiT",
        section="4.5",
        paper="Zhai et al. (2023), Sigmoid Loss for Language Image Pre-Training, ICCV, arXiv:2303.15343; "
              "Zhai et al. (2022), "
              "LiT: Zero-Shot Transfer with Locked-image text Tuning, CVPR, arXiv:2111.07991",
        module="mmlearn.text_for_vision.siglip",
        oracle="open_clip.loss.SigLipLoss",
        equations=("eq:sigmoid-loss", "eq:sigmoid-gradient", "eq:sigmoid-start", "eq:sigmoid-ring"),
    ),
    System(
        name="A planted bias",
        section="4.6",
        paper="Radford et al. (2021), arXiv:2103.00020, sec. 7; Zhao et al. (2017), Men Also Like Shopping, "
              "arXiv:1707.09457",
        module="mmlearn.metrics.bias",
        oracle="the formulas by loops",
        equations=("eq:word-association", "eq:answer-share", "eq:share-gap", "eq:label-share"),
    ),
)
