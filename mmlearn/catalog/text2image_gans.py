"""The systems of chapter 2's first half: GANs, their encoders of text, metrics of generated pictures."""

from mmlearn.catalog.entry import Configuration, System

SYSTEMS: tuple[System, ...] = (
    System(
        name="GAN",
        section="2.1.1",
        paper="Goodfellow et al. (2014), Generative Adversarial Nets, NeurIPS, arXiv:1406.2661",
        module="mmlearn.text2image.adversarial",
        model="mmlearn.text2image.gan:GAN",
        configurations=(Configuration("mini", "mmlearn.text2image.gan:GANConfig.mini"),),
        oracle="tables, Gaussians and their mixtures in closed form; torch.distributions, "
               "binary_cross_entropy_with_logits, torch.autograd.gradcheck",
        equations=("eq:gan-value", "eq:gan-value-sum", "eq:gan-optimal-d", "eq:gan-optimal-logit",
                   "eq:gan-density-ratio", "eq:gan-criterion", "eq:gan-jsd-bound", "eq:gan-kl",
                   "eq:gan-jsd", "eq:gan-tv", "eq:gan-non-saturating-divergence", "eq:bce-real",
                   "eq:bce-fake", "eq:gan-d-loss", "eq:gan-saturating", "eq:gan-non-saturating",
                   "eq:gan-saturating-gradient", "eq:gan-non-saturating-gradient", "eq:gan-hinge",
                   "eq:gan-hinge-g", "eq:gan-hinge-sum", "eq:gan-hinge-optimum", "eq:gan-hinge-tv",
                   "eq:gaussian-mixture", "eq:mode-shares", "eq:mode-divergence"),
    ),
    System(
        name="DCGAN",
        section="2.1.1",
        paper="Radford et al. (2016), Unsupervised Representation Learning with Deep Convolutional "
              "Generative Adversarial Networks, ICLR, arXiv:1511.06434",
        module="mmlearn.text2image.dcgan",
        model="mmlearn.text2image.dcgan:DCGAN",
        command="dcgan",
        configurations=(
            Configuration("paper", "mmlearn.text2image.dcgan:DCGANConfig.paper", 23_694_592,
                          "counted from fig. 1: generator 12,658,432, discriminator 11,036,160"),
            Configuration("code", "mmlearn.text2image.dcgan:DCGANConfig.code", 6_342_272,
                          "counted in the released sizes: generator 3,576,704, discriminator 2,765,568"),
            Configuration("mini", "mmlearn.text2image.dcgan:DCGANConfig.mini"),
        ),
        oracle="plain layers in the paper's order",
    ),
    System(
        name="char-CNN-RNN",
        section="2.1.2",
        paper="Reed et al. (2016), Learning Deep Representations of Fine-Grained Visual Descriptions, CVPR, "
              "arXiv:1605.05395",
        module="mmlearn.text2image.char_cnn_rnn",
        model="mmlearn.text2image.char_cnn_rnn:CharCNNRNN",
        command="char-cnn-rnn",
        configurations=(
            *(Configuration(name, f"mmlearn.text2image.char_cnn_rnn:CharCNNRNNConfig.{name}", count,
                            "counted from the authors' code, reedscot/cvpr2016 and reedscot/icml2016")
              for name, count in (("cvpr", 1_814_144), ("icml_flowers", 2_994_560), ("icml", 4_045_184))),
            Configuration("mini", "mmlearn.text2image.char_cnn_rnn:CharCNNRNNConfig.mini"),
        ),
        oracle="the recurrences by loops; torch.nn.RNN and torch.nn.GRU where they agree; "
               "torch.nn.functional.multi_margin_loss; torchvision's GoogLeNet",
        equations=("eq:char-one-hot", "eq:char-rnn", "eq:char-gru", "eq:char-encoder",
                   "eq:sje-compatibility", "eq:sje-class-score", "eq:sje-classifier", "eq:sje-goal",
                   "eq:sje-max", "eq:sje-max-loss", "eq:sje-hinge", "eq:sje-loss", "eq:sje-ap"),
    ),
    System(
        name="GAN-CLS, GAN-INT and GAN-INT-CLS",
        section="2.1.2",
        paper="Reed et al. (2016), Generative Adversarial Text to Image Synthesis, ICML, arXiv:1605.05396",
        module="mmlearn.text2image.gan_cls",
        model="mmlearn.text2image.gan_cls:GANCLS",
        command="gan-cls",
        trainer="mmlearn.cli.train_text_to_image",
        configurations=(
            *(Configuration(name, f"mmlearn.text2image.gan_cls:GANCLSConfig.{name}", 22_935_552,
                            "counted from the authors' code, reedscot/icml2016: generator 18,905,472, "
                            "discriminator 4,030,080")
              for name in ("gan", "gan_cls", "gan_int", "gan_int_cls")),
            Configuration("coco", "mmlearn.text2image.gan_cls:GANCLSConfig.coco", 77_284_520,
                          "counted from the authors' code, reedscot/icml2016: generator 41,101,080, "
                          "discriminator 36,183,440"),
            Configuration("mini", "mmlearn.text2image.gan_cls:GANCLSConfig.mini"),
        ),
        oracle="plain layers in the released code's order; the formulas by loops",
        equations=("eq:gan-cls-d", "eq:gan-cls-optimum", "eq:gan-int-text", "eq:gan-int-g", "eq:gan-style",
                   "eq:gan-style-transfer"),
    ),
    System(
        name="StackGAN",
        section="2.1.3",
        paper="Zhang et al. (2017), StackGAN: Text to Photo-realistic Image Synthesis with Stacked "
              "Generative Adversarial Networks, ICCV, arXiv:1612.03242",
        module="mmlearn.text2image.stackgan",
        model="mmlearn.text2image.stackgan:StackGAN",
        command="stackgan",
        configurations=(
            Configuration("paper", "mmlearn.text2image.stackgan:StackGANConfig.paper", 93_187_616,
                          "counted from the authors' code, hanzhanggit/StackGAN: two generators, two "
                          "discriminators"),
            Configuration("coco", "mmlearn.text2image.stackgan:StackGANConfig.coco", 229_448_275,
                          "counted from the authors' code, hanzhanggit/StackGAN-Pytorch: two generators, two "
                          "discriminators"),
            Configuration("mini", "mmlearn.text2image.stackgan:StackGANConfig.mini"),
        ),
        oracle="torch.distributions for the KL; the formulas by loops",
        equations=("eq:ca-sample", "eq:ca-kl", "eq:ca-kl-mean", "eq:relu-residual", "eq:ca-parameters",
                   "eq:stackgan-discriminator", "eq:stackgan-generator"),
    ),
    System(
        name="StackGAN-v2",
        section="2.1.3",
        paper="Zhang et al. (2018), StackGAN++: Realistic Image Synthesis with Stacked Generative "
              "Adversarial Networks, TPAMI, arXiv:1710.10916",
        module="mmlearn.text2image.stackgan",
        model="mmlearn.text2image.stackgan:StackGANv2",
        command="stackgan-v2",
        configurations=(
            Configuration("paper", "mmlearn.text2image.stackgan:StackGANv2Config.paper", 117_066_902,
                          "counted from the authors' code, hanzhanggit/StackGAN-v2: generator 21,239,696 and "
                          "three discriminators"),
            Configuration("mini", "mmlearn.text2image.stackgan:StackGANv2Config.mini"),
        ),
        oracle="a stand-in with the released names; the formulas by loops",
        weights="netG of hanzhanggit/StackGAN-v2 (MIT), on Google Drive",
        equations=("eq:glu", "eq:glu-residual", "eq:stackgan2-discriminator", "eq:stackgan2-generator",
                   "eq:colour-statistics", "eq:colour-consistency"),
    ),
    System(
        name="DAMSM",
        section="2.1.3",
        paper="Xu et al. (2018), AttnGAN: Fine-Grained Text to Image Generation with Attentional Generative "
              "Adversarial Networks, CVPR, arXiv:1711.10485, sec. 3.2",
        module="mmlearn.text2image.damsm",
        model="mmlearn.text2image.damsm:DAMSM",
        command="damsm",
        configurations=(
            Configuration("cub", "mmlearn.text2image.damsm:DAMSMConfig.cub", 2_796_472,
                          "counted from the authors' code, taoxugit/AttnGAN: text 2,075,320, heads of the "
                          "image encoder 721,152"),
            Configuration("coco", "mmlearn.text2image.damsm:DAMSMConfig.coco", 9_350_572,
                          "counted from the authors' code, taoxugit/AttnGAN: text 8,629,420, heads of the "
                          "image encoder 721,152"),
            Configuration("mini", "mmlearn.text2image.damsm:DAMSMConfig.mini"),
        ),
        oracle="open_clip.loss.ClipLoss, torchvision's Inception-v3, torch.nn.LSTM; the loop over captions",
        weights="text_encoder and image_encoder of taoxugit/AttnGAN (MIT); COCO's text encoder at "
                "mediasynthesismuseum/attngan-coco",
        equations=("eq:damsm-similarity", "eq:damsm-over-words", "eq:damsm-attention", "eq:damsm-context",
                   "eq:damsm-score-code", "eq:damsm-score", "eq:damsm-sentence-score",
                   "eq:damsm-posterior", "eq:damsm-matching", "eq:damsm-loss"),
    ),
    System(
        name="AttnGAN",
        section="2.1.3",
        paper="Xu et al. (2018), AttnGAN: Fine-Grained Text to Image Generation with Attentional Generative "
              "Adversarial Networks, CVPR, arXiv:1711.10485",
        module="mmlearn.text2image.attngan",
        model="mmlearn.text2image.attngan:AttnGAN",
        command="attngan",
        trainer="mmlearn.cli.train_text_to_image",
        configurations=(
            Configuration("cub", "mmlearn.text2image.attngan:AttnGANConfig.cub", 104_681_270,
                          "counted from the authors' code, taoxugit/AttnGAN: generator 7,084,592 and three "
                          "discriminators"),
            Configuration("coco", "mmlearn.text2image.attngan:AttnGANConfig.coco", 230_690_438,
                          "counted from the authors' code, taoxugit/AttnGAN: generator 13,811,456 and three "
                          "discriminators; 230M in DF-GAN's table"),
            Configuration("mini", "mmlearn.text2image.attngan:AttnGANConfig.mini"),
        ),
        oracle="torch.nn.functional.scaled_dot_product_attention; a stand-in with the released names",
        weights="mediasynthesismuseum/attngan-coco; generators of taoxugit/AttnGAN (MIT), on Google Drive",
        equations=("eq:attngan-weights", "eq:attngan-read", "eq:attngan-discriminator",
                   "eq:attngan-discriminator-paper", "eq:attngan-branch", "eq:attngan-generator"),
    ),
    System(
        name="DM-GAN",
        section="2.1.3",
        paper="Zhu et al. (2019), DM-GAN: Dynamic Memory Generative Adversarial Networks for Text-to-Image "
              "Synthesis, CVPR, arXiv:1904.01310",
        module="mmlearn.text2image.dmgan",
        model="mmlearn.text2image.dmgan:DMGAN",
        command="dmgan",
        trainer="mmlearn.cli.train_text_to_image",
        configurations=(
            Configuration("cub", "mmlearn.text2image.dmgan:DMGANConfig.cub", 46_747_640,
                          "counted from the authors' code, MinfengZhu/DM-GAN: generator 21,449,042 and three "
                          "discriminators; 46M in DF-GAN's table"),
            Configuration("coco", "mmlearn.text2image.dmgan:DMGANConfig.coco", 47_633_912,
                          "counted from the authors' code, MinfengZhu/DM-GAN: generator 22,335,314 and three "
                          "discriminators"),
            Configuration("mini", "mmlearn.text2image.dmgan:DMGANConfig.mini"),
        ),
        oracle="torch.nn.functional.scaled_dot_product_attention, spectral norm by singular values; a "
               "stand-in with the released names",
        weights="generators of MinfengZhu/DM-GAN (MIT), on Google Drive",
        equations=("eq:dmgan-writing-gate", "eq:dmgan-writing", "eq:dmgan-addressing", "eq:dmgan-reading",
                   "eq:dmgan-response-gate", "eq:dmgan-response"),
    ),
    System(
        name="DF-GAN",
        section="2.1.3",
        paper="Tao et al. (2022), DF-GAN: A Simple and Effective Baseline for Text-to-Image Synthesis, CVPR, "
              "arXiv:2008.05865",
        module="mmlearn.text2image.dfgan",
        model="mmlearn.text2image.dfgan:DFGANGenerator",
        command="dfgan",
        trainer="mmlearn.cli.train_text_to_image",
        configurations=(
            *(Configuration(name, f"mmlearn.text2image.dfgan:DFGANConfig.{name}", count,
                            f"the generator, counted in the authors' code, tobran/DF-GAN; {both} with the "
                            f"discriminator, {stated}")
              for name, count, both, stated in (
                  ("cub", 9_744_131, "16,659,273", "where its README says 18M"),
                  ("coco", 9_744_131, "16,659,273", "where its README says 18M"),
                  ("code2020", 12_240_010, "32,410,576", "where the paper says 19M"))),
            Configuration("mini", "mmlearn.text2image.dfgan:DFGANConfig.mini"),
        ),
        oracle="plain modules with the authors' names; the formulas by loops; scipy.stats.truncnorm",
        weights="state_epoch_1220.pth (CUB), state_epoch_290.pth (COCO) of the authors (CC BY-NC-SA 4.0, "
                "academic use only)",
        equations=("eq:dfgan-affine", "eq:dfgan-fusion", "eq:dfgan-hinge", "eq:dfgan-magp",
                   "eq:dfgan-magp-paper", "eq:dfgan-truncated", "eq:dfgan-discriminator",
                   "eq:dfgan-generator", "eq:dfgan-two-way"),
    ),
    System(
        name="Metrics of generated pictures",
        section="2.1",
        paper="Salimans et al. (2016), Improved Techniques for Training GANs, arXiv:1606.03498; Heusel et "
              "al. (2017), arXiv:1706.08500 (FID); Binkowski et al. (2018), arXiv:1801.01401 (KID), "
              "Kynkaanniemi et al. (2019), arXiv:1904.06991 (precision and recall); Hessel et al. (2021), "
              "arXiv:2104.08718 (CLIP score)",
        module="mmlearn.metrics.generation",
        oracle="torchmetrics 1.9 on given features; scipy.linalg.sqrtm; pytorch-fid's Inception-v3; the "
               "formulas by loops",
        weights="Inception-v3 of pytorch-fid (Apache-2.0) or torchvision; EfficientNet-Lite0",
        equations=("eq:merged-moments", "eq:frechet-trace", "eq:frechet-distance", "eq:sample-bias",
                   "eq:inception-information", "eq:inception-score", "eq:subset-interval",
                   "eq:polynomial-kernel", "eq:kernel-distance", "eq:neighbour-radius", "eq:in-manifold",
                   "eq:manifold-precision", "eq:r-precision", "eq:clip-score", "eq:clip-score-percent",
                   "eq:clip-score-logit", "eq:attribute-accuracy"),
    ),
)
