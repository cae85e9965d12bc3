"""The systems of chapter 1."""

from mmlearn.catalog.entry import Configuration, System

SYSTEMS: tuple[System, ...] = (
    System(
        name="COCO annotation pipeline",
        section="1.1",
        paper="Lin et al. (2014), Microsoft COCO: Common Objects in Context, arXiv:1405.0312",
        module="mmlearn.image2text.annotation",
        oracle="closed forms and enumeration; pycocotools for masks, IoU and AP",
        equations=("eq:coco-recall", "eq:coco-questions", "eq:coco-verify", "eq:coco-cost", "eq:rle-delta",
                   "eq:iou", "eq:iou-crowd", "eq:precision-recall", "eq:ap", "eq:coco-ap"),
    ),
    System(
        name="CNN + Transformer captioner",
        section="1.2",
        paper="Vinyals et al. (2015), Show and Tell, arXiv:1411.4555; Vaswani et al. (2017), Attention Is "
              "All You Need, "
              "arXiv:1706.03762",
        module="mmlearn.image2text.captioner",
        model="mmlearn.image2text.captioner:CNNTransformer",
        command="captioner",
        trainer="mmlearn.cli.train_captioner",
        configurations=(
            Configuration("resnet101", "mmlearn.image2text.captioner:CaptionerConfig.resnet101"),
            Configuration("resnet50", "mmlearn.image2text.captioner:CaptionerConfig.resnet50"),
            Configuration("resnet101_6", "mmlearn.image2text.captioner:CaptionerConfig.resnet101_6"),
            Configuration("mini", "mmlearn.image2text.captioner:CaptionerConfig.mini"),
            Configuration("residual", "mmlearn.image2text.captioner:CaptionerConfig.residual"),
        ),
        oracle="torch.nn.TransformerEncoderLayer, torch.nn.TransformerDecoderLayer",
        weights="torchvision's ImageNet weights for the CNN",
        equations=("eq:caption-chain", "eq:caption-xe", "eq:grid-projection", "eq:sinusoid", "eq:attention",
                   "eq:multi-head", "eq:ffn", "eq:add-norm", "eq:beam"),
    ),
    System(
        name="M2 Transformer",
        section="1.2.1",
        paper="Cornia et al. (2020), Meshed-Memory Transformer for Image Captioning, CVPR, arXiv:1912.08226",
        module="mmlearn.image2text.m2",
        model="mmlearn.image2text.m2:M2Transformer",
        command="m2",
        trainer="mmlearn.cli.train_captioner",
        configurations=(
            Configuration("paper", "mmlearn.image2text.m2:M2Config.paper", 38_411_264,
                          "counted in the authors' code, aimagelab/meshed-memory-transformer"),
            Configuration("released", "mmlearn.image2text.m2:M2Config.released", 38_411_264,
                          "counted in the authors' code, aimagelab/meshed-memory-transformer"),
            *(Configuration(name, f"mmlearn.image2text.m2:M2Config.{name}")
              for name in ("transformer_3", "transformer_6", "transformer_aoa", "one_to_one_no_memory",
                           "one_to_one", "no_memory", "softmax_gates", "mini", "plain_mini")),
        ),
        oracle="torch.nn.TransformerEncoderLayer, torch.nn.TransformerDecoderLayer, "
               "torch.nn.MultiheadAttention with "
               "add_bias_kv; a naive float64 version",
        weights="meshed_memory_transformer.pth of the authors (BSD-3-Clause)",
        equations=("eq:m2-memory", "eq:m2-lambda", "eq:m2-survey-memory", "eq:m2-encoder", "eq:m2-cross",
                   "eq:m2-gate", "eq:m2-mesh", "eq:m2-softmax-gate", "eq:m2-decoder-paper",
                   "eq:m2-decoder-code", "eq:m2-params", "eq:m2-equal-params", "eq:noam"),
    ),
    System(
        name="Self-critical sequence training",
        section="1.2.1",
        paper="Rennie et al. (2017), Self-critical Sequence Training for Image Captioning, arXiv:1612.00563",
        module="mmlearn.image2text.losses",
        oracle="the gradient worked out by hand; torch.autograd.gradcheck",
        equations=("eq:scst-objective", "eq:scst-gradient", "eq:scst-greedy", "eq:scst-m2", "eq:scst-loo"),
    ),
    System(
        name="Caption metrics",
        section="1.2",
        paper="Papineni et al. (2002), BLEU; Denkowski and Lavie (2014), METEOR; Lin (2004), ROUGE; Vedantam "
              "et al. "
              "(2015), CIDEr, arXiv:1411.5726; Anderson et al. (2016), SPICE, arXiv:1607.08822",
        module="mmlearn.metrics.caption",
        oracle="pycocoevalcap 1.2",
        equations=("eq:bleu-precision", "eq:bleu", "eq:meteor-alignment", "eq:meteor", "eq:rouge-l",
                   "eq:cider-tfidf", "eq:cider", "eq:cider-d", "eq:spice"),
    ),
)
