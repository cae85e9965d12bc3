"""Every system of the book, registered once: section, paper, class, configurations, counts, oracle, weights,
trainer.

The commands ``mmlearn systems`` and ``mmlearn train``, the systems page of the book, what opens a saved
model, the paper-scale test and the parity tests read it. Modules are named by strings and imported when they
are needed, so that this list imports none of them.
Parameter counts are those of the model built on the ``meta`` device, so that listing them takes no memory.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import nn


@dataclass(frozen=True)
class Configuration:
    """A named size of a system. ``published`` counts trainable parameters, as ``source`` states them."""

    name: str
    build: str                      # "package.module:Class.method", which returns the configuration
    published: int | None = None
    source: str | None = None


@dataclass(frozen=True)
class System:
    """A system of the book. ``model`` is "package.module:Class", or None where nothing is trained."""

    name: str
    section: str                    # of the survey
    paper: str                      # "Authors (year), Title, where; key in references.bib"
    module: str
    model: str | None = None
    configurations: tuple[Configuration, ...] = ()
    oracle: str | None = None       # what an independent implementation it is compared with
    weights: str | None = None      # public weights that load into it
    equations: tuple[str, ...] = ()
    command: str = ""               # its name on the command line and in the files of saved models
    trainer: str = ""  # the module with ``add(parser, system)`` that trains it: ``mmlearn train COMMAND``


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
        name="VQGAN",
        section="2.2",
        paper="Esser et al. (2021), Taming Transformers for High-Resolution Image Synthesis, CVPR, "
              "arXiv:2012.09841",
        module="mmlearn.text2image.vqgan",
        model="mmlearn.text2image.vqgan:VQGAN",
        configurations=(
            *(Configuration(name, f"mmlearn.text2image.vqgan:VQGANConfig.{name}", count,
                            "the autoencoder, counted in the authors' code, CompVis/taming-transformers")
              for name, count in (("imagenet_f16_1024", 72_141_699), ("imagenet_f16_16384", 76_073_859))),
            Configuration("openimages_f8_gumbel",
                          "mmlearn.text2image.vqgan:VQGANConfig.openimages_f8_gumbel"),
            Configuration("mini", "mmlearn.text2image.vqgan:VQGANConfig.mini"),
        ),
        oracle="taming-transformers (model, both losses and their gradients); diffusers' VQModel; the "
               "formulas by loops",
        weights="last.ckpt of CompVis/taming-transformers and CompVis/latent-diffusion (MIT), with their "
                "discriminators; diffusers' VQModel",
        equations=("eq:autoencoder-residual", "eq:vqgan-edges", "eq:vqgan-reconstruction",
                   "eq:vqgan-adaptive", "eq:vqgan-generator", "eq:vqgan-loss", "eq:vqgan-temperature"),
    ),
    System(
        name="VQGAN's discriminator",
        section="2.2",
        paper="Isola et al. (2017), Image-to-Image Translation with Conditional Adversarial Networks, CVPR, "
              "arXiv:1611.07004",
        module="mmlearn.text2image.vqgan",
        model="mmlearn.text2image.vqgan:PatchDiscriminator",
        configurations=(
            Configuration("paper", "mmlearn.text2image.vqgan:PatchConfig.paper", 2_765_633,
                          "counted in the authors' code, CompVis/taming-transformers"),
            Configuration("mini", "mmlearn.text2image.vqgan:PatchConfig.mini"),
        ),
        oracle="taming-transformers",
        weights="in last.ckpt of CompVis/taming-transformers (MIT)",
        equations=("eq:vqgan-discriminator",),
    ),
    System(
        name="Perceptual distance (LPIPS)",
        section="2.2",
        paper="Zhang et al. (2018), The Unreasonable Effectiveness of Deep Features as a Perceptual Metric, "
              "CVPR, arXiv:1801.03924",
        module="mmlearn.text2image.perceptual",
        oracle="the package lpips, with its heads and a random network; the formulas by loops",
        weights="vgg.pth of the package lpips (BSD-2-Clause) with torchvision's VGG-16; or last.ckpt of "
                "VQGAN, which holds both",
        equations=("eq:lpips-unit", "eq:lpips-layer", "eq:lpips-distance"),
    ),
    System(
        name="Taming transformer",
        section="2.2",
        paper="Esser et al. (2021), Taming Transformers for High-Resolution Image Synthesis, CVPR, "
              "arXiv:2012.09841",
        module="mmlearn.text2image.taming_transformer",
        model="mmlearn.text2image.taming_transformer:TamingTransformer",
        configurations=tuple(
            Configuration(name, f"mmlearn.text2image.taming_transformer:TamingTransformerConfig.{name}")
            for name in ("semantic", "faces", "imagenet", "mini")),
        oracle="taming-transformers' GPT",
        weights="the second stages of CompVis/taming-transformers (MIT)",
        equations=("eq:taming-loss", "eq:taming-window", "eq:taming-keep"),
    ),
    System(
        name="First stage of latent diffusion",
        section="2.3.1",
        paper="Rombach et al. (2022), High-Resolution Image Synthesis with Latent Diffusion Models, CVPR, "
              "arXiv:2112.10752",
        module="mmlearn.text2image.kl_autoencoder",
        model="mmlearn.text2image.kl_autoencoder:KLAutoencoder",
        configurations=(
            Configuration("stable_diffusion",
                          "mmlearn.text2image.kl_autoencoder:KLAutoencoderConfig.stable_diffusion",
                          83_653_863, "counted in diffusers' AutoencoderKL with Stable Diffusion's sizes"),
            *(Configuration(name, f"mmlearn.text2image.kl_autoencoder:KLAutoencoderConfig.{name}")
              for name in ("f4", "f16", "f32", "mini")),
        ),
        oracle="diffusers' AutoencoderKL; torch.distributions; the formulas by loops",
        weights="Stable Diffusion's checkpoints (CreativeML OpenRAIL-M), stabilityai/sd-vae-ft-mse (MIT), "
                "CompVis/latent-diffusion (MIT)",
        equations=("eq:kl-autoencoder-nll", "eq:kl-autoencoder-variance", "eq:kl-autoencoder-loss",
                   "eq:kl-autoencoder-scale"),
    ),
    System(
        name="Latent diffusion",
        section="2.3.1",
        paper="Rombach et al. (2022), High-Resolution Image Synthesis with Latent Diffusion Models, CVPR, "
              "arXiv:2112.10752",
        module="mmlearn.text2image.latent_diffusion",
        model="mmlearn.text2image.latent_diffusion:LatentUNet",
        configurations=(
            Configuration("stable_diffusion",
                          "mmlearn.text2image.latent_diffusion:LatentUNetConfig.stable_diffusion",
                          859_520_964,
                          "the U-Net, counted in diffusers; with it the frozen text of CLIP ViT-L/14, "
                          "123,060,480, and the autoencoder, 83,653,863"),
            Configuration("text_to_image",
                          "mmlearn.text2image.latent_diffusion:LatentUNetConfig.text_to_image", 872_300_484,
                          "the U-Net, counted in diffusers; with its text transformer of 542,895,360 it is "
                          "1,415 million, where the paper says 1.45B"),
            Configuration("mini", "mmlearn.text2image.latent_diffusion:LatentUNetConfig.mini"),
        ),
        oracle="diffusers' UNet2DConditionModel and LDMBertModel; a stand-in with the released names",
        weights="CompVis/stable-diffusion-v1-4 (CreativeML OpenRAIL-M), CompVis/ldm-text2im-large-256 (its "
                "U-Net)",
        equations=("eq:ldm-geglu", "eq:ldm-snr", "eq:ldm-loss"),
    ),
    System(
        name="unCLIP's diffusion prior",
        section="2.3.1",
        paper="Ramesh et al. (2022), Hierarchical Text-Conditional Image Generation with CLIP Latents "
              "(DALL-E 2), arXiv:2204.06125",
        module="mmlearn.text2image.unclip_prior",
        model="mmlearn.text2image.unclip_prior:DiffusionPrior",
        configurations=(
            Configuration("paper", "mmlearn.text2image.unclip_prior:PriorConfig.paper"),
            Configuration("karlo", "mmlearn.text2image.unclip_prior:PriorConfig.karlo", 1_022_028_544,
                          "counted in diffusers' PriorTransformer, whose 1,022,030,080 hold mean and "
                          "deviation of the data, 1,536 numbers that are not trained"),
            Configuration("mini", "mmlearn.text2image.unclip_prior:PriorConfig.mini"),
        ),
        oracle="diffusers' PriorTransformer; the formulas by loops",
        equations=("eq:unclip-scale", "eq:unclip-loss", "eq:unclip-choose"),
    ),
    System(
        name="unCLIP's autoregressive prior",
        section="2.3.1",
        paper="Ramesh et al. (2022), Hierarchical Text-Conditional Image Generation with CLIP Latents "
              "(DALL-E 2), arXiv:2204.06125",
        module="mmlearn.text2image.unclip_prior",
        model="mmlearn.text2image.unclip_prior:ARPrior",
        configurations=(
            Configuration("paper", "mmlearn.text2image.unclip_prior:ARPriorConfig.paper"),
            Configuration("mini", "mmlearn.text2image.unclip_prior:ARPriorConfig.mini"),
        ),
        oracle="one teacher-forced pass beside drawing with a cache; the formulas by loops",
        equations=("eq:unclip-pca", "eq:unclip-bucket", "eq:unclip-unbucket"),
    ),
    System(
        name="unCLIP's decoder",
        section="2.3.1",
        paper="Ramesh et al. (2022), Hierarchical Text-Conditional Image Generation with CLIP Latents "
              "(DALL-E 2), arXiv:2204.06125",
        module="mmlearn.text2image.unclip",
        model="mmlearn.text2image.unclip:UnCLIPDecoder",
        configurations=(
            Configuration("paper", "mmlearn.text2image.unclip:UnCLIPConfig.paper"),
            Configuration("mini", "mmlearn.text2image.unclip:UnCLIPConfig.mini"),
        ),
        oracle="the U-Net's; the formulas by loops",
        equations=("eq:unclip-tokens", "eq:unclip-time", "eq:unclip-drop"),
    ),
    System(
        name="Karlo's decoder",
        section="2.3.1",
        paper="Lee et al. (2022), Karlo-v1.0.alpha on COYO-100M and CC15M, github.com/kakaobrain/karlo",
        module="mmlearn.text2image.unclip",
        model="mmlearn.text2image.unclip:KarloDecoder",
        configurations=(
            Configuration("released", "mmlearn.text2image.unclip:KarloConfig.released"),
            Configuration("mini", "mmlearn.text2image.unclip:KarloConfig.mini"),
        ),
        oracle="the U-Net's; the formulas by loops",
    ),
    System(
        name="unCLIP's upsamplers",
        section="2.3.1",
        paper="Ramesh et al. (2022), Hierarchical Text-Conditional Image Generation with CLIP Latents "
              "(DALL-E 2), arXiv:2204.06125",
        module="mmlearn.text2image.unclip",
        model="mmlearn.text2image.unclip:UnCLIPUpsampler",
        configurations=tuple(Configuration(name, f"mmlearn.text2image.unclip:UpsamplerConfig.{name}")
                             for name in ("to_256", "to_1024", "mini")),
        oracle="the U-Net's",
        equations=("eq:unclip-blur",),
    ),
    System(
        name="T5's encoder",
        section="2.3.1",
        paper="Raffel et al. (2020), Exploring the Limits of Transfer Learning with a Unified Text-to-Text "
              "Transformer, JMLR 21, arXiv:1910.10683",
        module="mmlearn.nn.t5",
        model="mmlearn.nn.t5:T5Encoder",
        configurations=(
            Configuration("xxl", "mmlearn.nn.t5:T5Config.xxl", 4_762_310_656, "counted in transformers"),
            *(Configuration(name, f"mmlearn.nn.t5:T5Config.{name}")
              for name in ("xl", "large", "base", "small", "mini")),
        ),
        oracle="transformers' T5EncoderModel",
        weights="google/t5-v1_1-xxl and smaller (Apache-2.0)",
        equations=("eq:t5-norm", "eq:t5-bucket", "eq:t5-attention", "eq:t5-feed-forward"),
    ),
    System(
        name="Imagen",
        section="2.3.1",
        paper="Saharia et al. (2022), Photorealistic Text-to-Image Diffusion Models with Deep Language "
              "Understanding, NeurIPS, arXiv:2205.11487",
        module="mmlearn.text2image.imagen",
        model="mmlearn.text2image.imagen:Imagen",
        configurations=(
            Configuration("paper", "mmlearn.text2image.imagen:ImagenConfig.paper"),
            Configuration("mini", "mmlearn.text2image.imagen:ImagenConfig.mini"),
        ),
        oracle="diffusers' DDPMScheduler for dynamic thresholding; the formulas by loops",
        equations=("eq:imagen-pool", "eq:imagen-augmentation", "eq:imagen-drop",
                   "eq:guidance-dynamic-threshold"),
    ),
    System(
        name="Imagen's Efficient U-Net",
        section="2.3.1",
        paper="Saharia et al. (2022), Photorealistic Text-to-Image Diffusion Models with Deep Language "
              "Understanding, NeurIPS, arXiv:2205.11487",
        module="mmlearn.text2image.efficient_unet",
        model="mmlearn.text2image.efficient_unet:EfficientUNet",
        configurations=tuple(Configuration(name, "mmlearn.text2image.efficient_unet:"
                                                 f"EfficientUNetConfig.{name}")
                             for name in ("to_256", "to_1024", "mini")),
        oracle="the formulas by loops",
        equations=("eq:imagen-skip",),
    ),
    System(
        name="ViT-VQGAN",
        section="2.3.1",
        paper="Yu et al. (2022), Vector-quantized Image Modeling with Improved VQGAN, ICLR, arXiv:2110.04627",
        module="mmlearn.text2image.vit_vqgan",
        model="mmlearn.text2image.vit_vqgan:ViTVQGAN",
        configurations=tuple(Configuration(name, f"mmlearn.text2image.vit_vqgan:ViTVQGANConfig.{name}")
                             for name in ("small", "base", "large", "parti", "mini")),
        oracle="the formulas by loops",
        equations=("eq:parti-patches", "eq:parti-tokeniser"),
    ),
    System(
        name="Parti",
        section="2.3.1",
        paper="Yu et al. (2022), Scaling Autoregressive Models for Content-Rich Text-to-Image Generation, "
              "TMLR, arXiv:2206.10789",
        module="mmlearn.text2image.parti",
        model="mmlearn.text2image.parti:Parti",
        configurations=tuple(Configuration(name, f"mmlearn.text2image.parti:PartiConfig.{name}")
                             for name in ("m350", "m750", "b3", "b20", "mini")),
        oracle="one teacher-forced pass beside drawing with a cache; masks by loops",
        equations=("eq:parti-window", "eq:parti-guidance", "eq:parti-rerank", "eq:parti-loss"),
    ),
    System(
        name="DDPM",
        section="2.3.1",
        paper="Ho et al. (2020), Denoising Diffusion Probabilistic Models, NeurIPS, arXiv:2006.11239",
        module="mmlearn.text2image.ddpm",
        model="mmlearn.text2image.ddpm:DDPMUNet",
        configurations=(
            Configuration("cifar10", "mmlearn.text2image.ddpm:DDPMConfig.cifar10", 35_746_307,
                          "counted in diffusers' UNet2DModel; 35.7M in app. B"),
            Configuration("lsun256", "mmlearn.text2image.ddpm:DDPMConfig.lsun256", 113_673_219,
                          "counted in diffusers' UNet2DModel; 114M in app. B"),
            Configuration("large_bedroom256", "mmlearn.text2image.ddpm:DDPMConfig.large_bedroom256",
                          255_677_955, "counted with 192 channels, which the paper does not "
                          "state; about 256M in app. B"),
            Configuration("mini", "mmlearn.text2image.ddpm:DDPMConfig.mini"),
        ),
        oracle="diffusers' UNet2DModel",
        weights="google/ddpm-cifar10-32, -celebahq-256, -bedroom-256, -cat-256, -church-256 (Apache-2.0)",
        equations=("eq:diffusion-linear", "eq:diffusion-cosine", "eq:diffusion-scaled-linear",
                   "eq:diffusion-respaced", "eq:diffusion-step", "eq:diffusion-marginal",
                   "eq:diffusion-posterior-variance", "eq:diffusion-posterior-mean",
                   "eq:diffusion-posterior-mean-noise", "eq:diffusion-x0", "eq:diffusion-noise",
                   "eq:diffusion-velocity", "eq:diffusion-x0-velocity", "eq:diffusion-noise-velocity",
                   "eq:diffusion-learned-variance", "eq:diffusion-prior", "eq:diffusion-discretised",
                   "eq:diffusion-bound-weight", "eq:diffusion-bound-term", "eq:diffusion-bound",
                   "eq:diffusion-simple", "eq:diffusion-hybrid", "eq:ancestral-step", "eq:ddim-sigma",
                   "eq:ddim-step", "eq:dpm-step", "eq:dpm-lambda", "eq:dpm-data", "eq:ddim-ode",
                   "eq:ddim-time", "eq:score-noise", "eq:score-to-noise", "eq:score-tweedie",
                   "eq:score-matching", "eq:score-beta", "eq:score-alpha-bar", "eq:score-sde",
                   "eq:score-reverse", "eq:score-flow", "eq:score-straight", "eq:score-straight-velocity",
                   "eq:score-straight-level", "eq:score-straight-noise", "eq:score-mixture",
                   "eq:score-mixture-variance", "eq:unet-time", "eq:unet-time-ddpm", "eq:unet-up",
                   "eq:unet-attention", "eq:unet-residual", "eq:diffusion-gaussian-kl"),
    ),
    System(
        name="ADM",
        section="2.3.1",
        paper="Dhariwal and Nichol (2021), Diffusion Models Beat GANs on Image Synthesis, NeurIPS, "
              "arXiv:2105.05233",
        module="mmlearn.text2image.adm",
        model="mmlearn.text2image.adm:ADMUNet",
        configurations=(
            *(Configuration(name, f"mmlearn.text2image.adm:ADMConfig.{name}", count,
                            f"counted in the authors' code, openai/guided-diffusion; {stated}")
              for name, count, stated in (
                  ("imagenet64", 295_904_454, "296M in the paper"),
                  ("imagenet128", 421_529_606, "422M in the paper"),
                  ("imagenet256", 553_838_086, "554M in the paper"),
                  ("imagenet512", 558_997_638, "559M in the paper"),
                  ("upsampler256", 311_795_910, "312M in the paper"))),
            Configuration("upsampler512", "mmlearn.text2image.adm:ADMConfig.upsampler512"),
            Configuration("lsun256", "mmlearn.text2image.adm:ADMConfig.lsun256"),
            Configuration("mini", "mmlearn.text2image.adm:ADMConfig.mini"),
        ),
        oracle="diffusers' UNet2DModel and UNet2DConditionModel; a stand-in with the released names",
        weights="64x64_diffusion.pt … 512x512_diffusion.pt, upsamplers and LSUN models of "
                "openai/guided-diffusion (MIT)",
        equations=("eq:norm-activation",),
    ),
    System(
        name="ADM's noisy classifier",
        section="2.3.1",
        paper="Dhariwal and Nichol (2021), Diffusion Models Beat GANs on Image Synthesis, NeurIPS, "
              "arXiv:2105.05233",
        module="mmlearn.text2image.adm",
        model="mmlearn.text2image.adm:NoisyClassifier",
        configurations=(
            Configuration("imagenet64", "mmlearn.text2image.adm:NoisyClassifierConfig.imagenet64", 65_438_568,
                          "counted in the authors' code, openai/guided-diffusion; 65M in the paper"),
            *(Configuration(name, f"mmlearn.text2image.adm:NoisyClassifierConfig.{name}")
              for name in ("imagenet128", "imagenet256", "imagenet512", "mini")),
        ),
        oracle="a stand-in with the released names",
        weights="64x64_classifier.pt … 512x512_classifier.pt of openai/guided-diffusion (MIT)",
        equations=("eq:guidance-gradient", "eq:guidance-mean", "eq:guidance-noise", "eq:guidance-tilt"),
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
    System(
        name="VAE",
        section="2.2",
        paper="Kingma and Welling (2014), Auto-Encoding Variational Bayes, ICLR, arXiv:1312.6114; Burda et "
              "al. (2016), Importance Weighted Autoencoders, arXiv:1509.00519",
        module="mmlearn.text2image.vae",
        model="mmlearn.text2image.vae:VAE",
        configurations=(
            Configuration("mnist", "mmlearn.text2image.vae:VAEConfig.mnist", 815_824,
                          "counted layer by layer: 784-500-20-500-784"),
            Configuration("frey", "mmlearn.text2image.vae:VAEConfig.frey", 343_540,
                          "counted layer by layer: 560-200-10-200-560 with a deviation for each pixel"),
            Configuration("mini", "mmlearn.text2image.vae:VAEConfig.mini"),
            Configuration("plane", "mmlearn.text2image.vae:VAEConfig.plane"),
        ),
        oracle="torch.distributions; integrals and sampling; diffusers' DiagonalGaussianDistribution; a "
               "linear Gaussian model whose likelihood is known",
        equations=("eq:vae-reparameterise", "eq:vae-kl", "eq:vae-kl-two", "eq:vae-normal",
                   "eq:vae-bernoulli", "eq:vae-gaussian", "eq:vae-elbo", "eq:vae-beta",
                   "eq:vae-mean-for-sum", "eq:vae-importance", "eq:vae-pathwise", "eq:vae-score",
                   "eq:vae-bits"),
    ),
    System(
        name="Vector quantisation",
        section="2.2",
        paper="van den Oord et al. (2017), Neural Discrete Representation Learning, NeurIPS, "
              "arXiv:1711.00937; Yu et al. (2021), Vector-quantized Image Modeling with Improved VQGAN, "
              "arXiv:2110.04627",
        module="mmlearn.text2image.vector_quantisation",
        oracle="loops; diffusers' VectorQuantizer, vector-quantize-pytorch",
        equations=("eq:vq-loss", "eq:vq-distance", "eq:vq-nearest", "eq:vq-straight-through",
                   "eq:vq-codebook", "eq:vq-commitment", "eq:vq-legacy", "eq:vq-ema", "eq:vq-debias",
                   "eq:vq-smooth", "eq:vq-ema-code", "eq:vq-normalised", "eq:vq-usage", "eq:vq-perplexity",
                   "eq:vq-kl", "eq:vq-bits"),
    ),
    System(
        name="VQ-VAE",
        section="2.2",
        paper="van den Oord et al. (2017), Neural Discrete Representation Learning, NeurIPS, "
              "arXiv:1711.00937",
        module="mmlearn.text2image.vqvae",
        model="mmlearn.text2image.vqvae:VQVAE",
        configurations=(
            Configuration("imagenet", "mmlearn.text2image.vqvae:VQVAEConfig.imagenet", 4_811_843,
                          "counted layer by layer from sec. 4.1, with projections 1 x 1"),
            Configuration("cifar10", "mmlearn.text2image.vqvae:VQVAEConfig.cifar10", 8_536_448,
                          "counted layer by layer from sec. 4.1, with ten codebooks and 256 logits"),
            Configuration("released", "mmlearn.text2image.vqvae:VQVAEConfig.released", 695_491,
                          "counted layer by layer in DeepMind's example (Sonnet)"),
            Configuration("mini", "mmlearn.text2image.vqvae:VQVAEConfig.mini"),
        ),
        oracle="the network of DeepMind's example in plain layers; diffusers' VectorQuantizer",
        equations=("eq:vqvae-loss", "eq:vqvae-error", "eq:vqvae-values", "eq:vqvae-softmax",
                   "eq:vqvae-bits", "eq:vqvae-reject"),
    ),
    System(
        name="VQ-VAE-2",
        section="2.2",
        paper="Razavi et al. (2019), Generating Diverse High-Fidelity Images with VQ-VAE-2, NeurIPS, "
              "arXiv:1906.00446",
        module="mmlearn.text2image.vqvae",
        model="mmlearn.text2image.vqvae:VQVAE2",
        configurations=(
            Configuration("imagenet", "mmlearn.text2image.vqvae:VQVAE2Config.imagenet"),
            Configuration("mini", "mmlearn.text2image.vqvae:VQVAE2Config.mini"),
        ),
        oracle="vector-quantize-pytorch for its codebooks",
    ),
    System(
        name="Gated PixelCNN",
        section="2.2",
        paper="van den Oord et al. (2016), Conditional Image Generation with PixelCNN Decoders, NeurIPS, "
              "arXiv:1606.05328",
        module="mmlearn.text2image.pixelcnn",
        model="mmlearn.text2image.pixelcnn:PixelCNN",
        configurations=(
            Configuration("vqvae", "mmlearn.text2image.pixelcnn:PixelCNNConfig.vqvae"),
            Configuration("bottom", "mmlearn.text2image.pixelcnn:PixelCNNConfig.bottom"),
            Configuration("mini", "mmlearn.text2image.pixelcnn:PixelCNNConfig.mini"),
        ),
        oracle="masked convolutions of plain torch; all maps of a small world enumerated",
        equations=("eq:pixelcnn-mask", "eq:pixelcnn-gate", "eq:pixelcnn-likelihood"),
    ),
    System(
        name="dVAE of DALL-E",
        section="2.2",
        paper="Ramesh et al. (2021), Zero-Shot Text-to-Image Generation, ICML, arXiv:2102.12092, sec. 2.1",
        module="mmlearn.text2image.dvae",
        model="mmlearn.text2image.dvae:DVAE",
        command="dvae",
        configurations=(
            Configuration("paper", "mmlearn.text2image.dvae:DVAEConfig.paper", 97_616_006,
                          "counted from the released code, openai/DALL-E: encoder 53,786,240, decoder "
                          "43,829,766"),
            Configuration("mini", "mmlearn.text2image.dvae:DVAEConfig.mini"),
        ),
        oracle="the package DALL-E and transformers' FlavaImageCodebook; torch.distributions",
        weights="encoder.pkl and decoder.pkl of openai/DALL-E (modified MIT); the encoder at "
                "facebook/flava-image-codebook",
        equations=("eq:dvae-gumbel", "eq:dvae-gumbel-max", "eq:dvae-gumbel-softmax", "eq:dvae-kl",
                   "eq:dvae-bound", "eq:dvae-map-pixels", "eq:dvae-unmap-pixels", "eq:dvae-logit-laplace",
                   "eq:dvae-loss", "eq:dvae-cosine", "eq:dvae-block"),
    ),
    System(
        name="DALL-E 1",
        section="2.2.1",
        paper="Ramesh et al. (2021), Zero-Shot Text-to-Image Generation, ICML, arXiv:2102.12092",
        module="mmlearn.text2image.dalle",
        model="mmlearn.text2image.dalle:DALLE",
        command="dalle",
        configurations=(
            Configuration("paper", "mmlearn.text2image.dalle:DALLEConfig.paper", 12_292_812_416,
                          "counted from the sizes of sec. 2.2 and app. B; 12,092,178,432 of them in the "
                          "matrices of the layers, \"12 billion\" in the paper"),
            Configuration("width_1920", "mmlearn.text2image.dalle:DALLEConfig.width_1920", 2_928_236_160,
                          "counted; 2,831,155,200 in the matrices of the layers, \"2.8 billion\""),
            Configuration("width_2688", "mmlearn.text2image.dalle:DALLEConfig.width_2688", 5_684_977_536,
                          "counted; 5,549,064,192 in the matrices of the layers, \"5.6 billion\""),
            Configuration("mini", "mmlearn.text2image.dalle:DALLEConfig.mini"),
        ),
        oracle="GPT2LMHeadModel with full attention, scaled_dot_product_attention under each mask; "
               "dalle-pytorch for embeddings, loss and restricted logits",
        equations=("eq:dalle-text", "eq:dalle-image", "eq:dalle-loss", "eq:dalle-row", "eq:dalle-column",
                   "eq:dalle-convolution", "eq:dalle-mask"),
    ),
    System(
        name="GLIDE",
        section="2.3",
        paper="Nichol et al. (2021), GLIDE: Towards Photorealistic Image Generation and Editing with "
              "Text-Guided Diffusion Models, ICML 2022, arXiv:2112.10741",
        module="mmlearn.text2image.glide",
        model="mmlearn.text2image.glide:GLIDE",
        command="glide",
        trainer="mmlearn.cli.train_glide",
        configurations=(
            Configuration("full", "mmlearn.text2image.glide:GLIDEConfig.full", 3_554_414_086,
                          "counted in the released code with the paper's sizes, where it says 3.5B"),
            Configuration("full_upsampler", "mmlearn.text2image.glide:GLIDEConfig.full_upsampler",
                          1_540_932_998, "counted in the released code with the paper's sizes, if its text "
                                         "has 16 layers, where it says 1.5B"),
            *(Configuration(name, f"mmlearn.text2image.glide:GLIDEConfig.{name}", count,
                            "counted in the released code, openai/glide-text2im")
              for name, count in (("filtered", 385_030_726), ("filtered_inpaint", 385_037_638),
                                  ("filtered_upsampler", 398_361_286),
                                  ("filtered_upsampler_inpaint", 398_368_198))),
            Configuration("mini", "mmlearn.text2image.glide:GLIDEConfig.mini"),
            Configuration("mini_upsampler", "mmlearn.text2image.glide:GLIDEConfig.mini_upsampler"),
        ),
        oracle="diffusers' UNet2DConditionModel and DDPMScheduler; transformers' GPT2Tokenizer; plain "
               "modules with the released names; the formulas by loops",
        weights="base.pt, upsample.pt, base_inpaint.pt, upsample_inpaint.pt of openai/glide-text2im (MIT)",
        equations=("eq:glide-padding", "eq:glide-summary", "eq:glide-enlarged", "eq:glide-hole",
                   "eq:glide-known", "eq:glide-quantised", "eq:glide-drop", "eq:guidance-free",
                   "eq:guidance-weight"),
    ),
    System(
        name="Noised CLIP",
        section="2.3",
        paper="Nichol et al. (2021), GLIDE: Towards Photorealistic Image Generation and Editing with "
              "Text-Guided Diffusion Models, ICML 2022, arXiv:2112.10741, sec. 2.3",
        module="mmlearn.text2image.noised_clip",
        model="mmlearn.text2image.noised_clip:NoisedCLIP",
        command="noised-clip",
        configurations=(
            Configuration("released", "mmlearn.text2image.noised_clip:NoisedCLIPConfig.released", 158_123_264,
                          "counted in the released code, openai/glide-text2im: text 71,679,488, image "
                          "86,443,776"),
            Configuration("mini", "mmlearn.text2image.noised_clip:NoisedCLIPConfig.mini"),
        ),
        oracle="plain modules with the released names; finite differences for the gradient",
        weights="clip_image_enc.pt, clip_text_enc.pt of openai/glide-text2im (code MIT)",
        equations=("eq:noised-clip-embed", "eq:noised-clip-pixels", "eq:guidance-clip"),
    ),
    System(
        name="Skip-gram",
        section="3.2",
        paper="Mikolov et al. (2013), Distributed Representations of Words and Phrases and their "
              "Compositionality, arXiv:1310.4546; Efficient Estimation of Word Representations in Vector "
              "Space, arXiv:1301.3781",
        module="mmlearn.images_for_language.skip_gram",
        model="mmlearn.images_for_language.skip_gram:SkipGram",
        command="words",
        trainer="mmlearn.cli.train_words",
        configurations=(
            Configuration("word2vec", "mmlearn.images_for_language.skip_gram:SkipGramConfig.word2vec",
                          14_258_200, "2 v d with the 71,291 words of text8 and word2vec.c's defaults"),
            Configuration("ldc", "mmlearn.images_for_language.skip_gram:SkipGramConfig.ldc",
                          104_959_360, "(2 v - 1) d with v = 82,000 and d = 640; arXiv:1301.3781, table 3"),
            Configuration("neg5", "mmlearn.images_for_language.skip_gram:SkipGramConfig.neg5",
                          415_200_000, "2 v d with v = 692,000 and d = 300; arXiv:1310.4546, sec. 3"),
            Configuration("neg15", "mmlearn.images_for_language.skip_gram:SkipGramConfig.neg15",
                          415_200_000, "2 v d with v = 692,000 and d = 300; arXiv:1310.4546, sec. 3"),
            Configuration("hs_huffman", "mmlearn.images_for_language.skip_gram:SkipGramConfig.hs_huffman",
                          415_199_700, "(2 v - 1) d with v = 692,000 and d = 300; arXiv:1310.4546, sec. 3"),
            Configuration("mini", "mmlearn.images_for_language.skip_gram:SkipGramConfig.mini"),
        ),
        oracle="gensim.models.Word2Vec: codes, probabilities, and training with the hierarchical softmax "
               "number for number",
        weights="any file of word2vec's or GloVe's formats, as word vectors (mmlearn.data.word_vectors)",
    ),
    System(
        name="GloVe",
        section="3.2",
        paper="Pennington, Socher and Manning (2014), GloVe: Global Vectors for Word Representation, EMNLP",
        module="mmlearn.images_for_language.glove",
        model="mmlearn.images_for_language.glove:GloVe",
        command="glove",
        trainer="mmlearn.cli.train_glove",
        configurations=(
            Configuration("glove_300", "mmlearn.images_for_language.glove:GloVeConfig.glove_300",
                          240_800_000, "2 v (d + 1) with v = 400,000 and d = 300; the paper, sec. 4.2"),
            Configuration("glove_100", "mmlearn.images_for_language.glove:GloVeConfig.glove_100",
                          80_800_000, "2 v (d + 1) with v = 400,000 and d = 100; the paper, sec. 4.2"),
            Configuration("demo", "mmlearn.images_for_language.glove:GloVeConfig.demo"),
            Configuration("mini", "mmlearn.images_for_language.glove:GloVeConfig.mini"),
        ),
        oracle="mittens.GloVe: 50 steps of full-batch AdaGrad number for number; the released program, entry "
               "by entry, by a loop",
        weights="glove.6B, 42B, 840B and twitter as word vectors (mmlearn.data.word_vectors)",
    ),
    System(
        name="WordPiece",
        section="3.2",
        paper="Wu et al. (2016), Google's Neural Machine Translation System, arXiv:1609.08144; Devlin et al. "
              "(2019), BERT, NAACL, arXiv:1810.04805",
        module="mmlearn.data.wordpiece",
        oracle="tokenizers (BertNormalizer, BertPreTokenizer, WordPiece); transformers.BertTokenizer",
        weights="any vocab.txt of BERT's family",
    ),
    System(
        name="BERT",
        section="3.2",
        paper="Devlin et al. (2019), BERT: Pre-training of Deep Bidirectional Transformers for Language "
              "Understanding, NAACL, arXiv:1810.04805",
        module="mmlearn.images_for_language.bert",
        model="mmlearn.images_for_language.bert:BERTForPreTraining",
        configurations=(
            Configuration("base", "mmlearn.nn.bert:BERTConfig.base", 110_106_428,
                          "counted in transformers.BertForPreTraining (published: 110M)"),
            Configuration("large", "mmlearn.nn.bert:BERTConfig.large", 336_226_108,
                          "counted in transformers.BertForPreTraining (published: 340M)"),
            Configuration("small", "mmlearn.nn.bert:BERTConfig.small", 35_363_644,
                          "counted in transformers.BertForPreTraining, at the size of airsplay/vokenization"),
            Configuration("mini", "mmlearn.nn.bert:BERTConfig.mini"),
        ),
        oracle="transformers.BertForPreTraining, BertForMaskedLM, DataCollatorForLanguageModeling; "
               "torch.optim.AdamW for the optimiser",
        weights="google-bert/bert-base-uncased, -large-uncased, -cased (Apache-2.0), with their heads; "
                "sentence-transformers/all-MiniLM-L6-v2 (Apache-2.0)",
    ),
    System(
        name="Self-attention",
        section="3.5",
        paper="Vaswani et al. (2017), Attention Is All You Need, arXiv:1706.03762",
        module="mmlearn.images_for_language.self_attention",
        oracle="the formulas one token at a time; torch.nn.RNN for the recurrence",
    ),
    System(
        name="Counts of contexts",
        section="3.3",
        paper="Bruni et al. (2014), Multimodal Distributional Semantics, JAIR 49; Levy and Goldberg (2014), "
              "Neural Word Embedding as Implicit Matrix Factorization, NIPS",
        module="mmlearn.images_for_language.counts",
        oracle="the formulas by loops",
    ),
    System(
        name="Bag of visual words",
        section="3.3",
        paper="Bruni et al. (2014), Multimodal Distributional Semantics, JAIR 49; Lowe (2004), Distinctive "
              "Image Features from Scale-Invariant Keypoints, IJCV 60",
        module="mmlearn.images_for_language.visual_words",
        oracle="scikit-image's SIFT at upright keypoints; sklearn.cluster.KMeans; the formulas by loops",
    ),
    System(
        name="Sequential fusion",
        section="3.3",
        paper="Bruni et al. (2014), Multimodal Distributional Semantics, JAIR 49",
        module="mmlearn.images_for_language.sequential_fusion",
        oracle="sklearn.decomposition.TruncatedSVD with arpack; the formulas by loops",
    ),
    System(
        name="CNN word vectors",
        section="3.3",
        paper="Kiela and Bottou (2014), Learning Image Embeddings using Convolutional Neural Networks for "
              "Improved Multi-Modal Semantics, EMNLP; Oquab et al. (2014), Learning and Transferring "
              "Mid-Level Image Representations using Convolutional Neural Networks, CVPR",
        module="mmlearn.images_for_language.visual_vectors",
        model="mmlearn.images_for_language.visual_vectors:AlexNet",
        configurations=(
            Configuration("oquab", "mmlearn.images_for_language.visual_vectors:AlexNetConfig.oquab",
                          106_009_448, "counted from the papers: convolutions of Krizhevsky et al. (2012) "
                                       "in two groups, FC6 and FC7 of 6144, 1512 classes"),
            Configuration("krizhevsky",
                          "mmlearn.images_for_language.visual_vectors:AlexNetConfig.krizhevsky", 60_965_224,
                          "counted from the layers of Krizhevsky et al. (2012), who say 60 million"),
            Configuration("torchvision",
                          "mmlearn.images_for_language.visual_vectors:AlexNetConfig.torchvision", 61_100_840,
                          "torchvision's documentation of AlexNet"),
            Configuration("mini", "mmlearn.images_for_language.visual_vectors:AlexNetConfig.mini"),
        ),
        oracle="torchvision.models.alexnet; the formulas by loops",
        weights="torchvision's alexnet-owt-7be5be79.pth (BSD-3-Clause); none of the 6144-wide network",
    ),
    System(
        name="Stacked bimodal autoencoder",
        section="3.3",
        paper="Silberer and Lapata (2014), Learning Grounded Meaning Representations with Autoencoders, ACL",
        module="mmlearn.images_for_language.bimodal_autoencoder",
        model="mmlearn.images_for_language.bimodal_autoencoder:BimodalAutoencoder",
        configurations=(
            Configuration("paper",
                          "mmlearn.images_for_language.bimodal_autoencoder:BimodalAutoencoderConfig.paper",
                          2_668_037, "counted from sec. 4.2: 2362-700-500 and 414-170-100, tied, 600-500, "
                                    "541 labels"),
            Configuration("mini",
                          "mmlearn.images_for_language.bimodal_autoencoder:BimodalAutoencoderConfig.mini"),
        ),
        oracle="the stack written out layer by layer",
    ),
    System(
        name="Imagined vectors (MAP-C)",
        section="3.3",
        paper="Collell et al. (2017), Imagined Visual Representations as Multimodal Embeddings, AAAI",
        module="mmlearn.images_for_language.imagined_vectors",
        model="mmlearn.images_for_language.imagined_vectors:ImaginedVectors",
        configurations=tuple(
            Configuration(name, f"mmlearn.images_for_language.imagined_vectors:ImaginedConfig.{name}")
            for name in ("glove_linear", "glove_network", "mini")),
        oracle="sklearn.linear_model.Ridge",
    ),
    System(
        name="Pseudo-sentences",
        section="3.4",
        paper="Hill and Korhonen (2014), Learning Abstract Concept Embeddings from Multi-Modal Data: Since "
              "You Probably Can't See What I Mean, EMNLP",
        module="mmlearn.images_for_language.pseudo_sentences",
        oracle="expected counts",
    ),
    System(
        name="Grounded space",
        section="3.3",
        paper="Bordes et al. (2019), Incorporating Visual Semantics into Sentence Representations within a "
              "Grounded Space, EMNLP, arXiv:2002.02734",
        module="mmlearn.images_for_language.grounded_space",
        model="mmlearn.images_for_language.grounded_space:GroundedSpace",
        configurations=tuple(
            Configuration(name, f"mmlearn.images_for_language.grounded_space:GroundedSpaceConfig.{name}")
            for name in ("skip_thought", "mini")),
        oracle="the losses by loops",
    ),
    System(
        name="Multimodal skip-gram",
        section="3.4",
        paper="Lazaridou et al. (2015), Combining Language and Vision with a Multimodal Skip-gram Model, "
              "NAACL-HLT, arXiv:1501.02598",
        module="mmlearn.images_for_language.multimodal_skip_gram",
        model="mmlearn.images_for_language.multimodal_skip_gram:MultimodalSkipGram",
        configurations=tuple(        # the paper does not state its vocabulary: no count to compare with
            Configuration(name, f"mmlearn.images_for_language.multimodal_skip_gram:"
                                f"MultimodalSkipGramConfig.{name}")
            for name in ("paper_a", "paper_b", "fc7", "mini_a", "mini")),
        oracle="skip-gram without pictures, to the last bit; torch.autograd.gradcheck; model A for B with "
               "the identity as its mapping",
    ),
    System(
        name="Zero-shot naming and retrieval of words",
        section="3.4",
        paper="Lazaridou et al. (2015), Combining Language and Vision with a Multimodal Skip-gram Model, "
              "NAACL-HLT, arXiv:1501.02598; Hoerl and Kennard (1970), Ridge Regression: Biased Estimation "
              "for Nonorthogonal Problems, Technometrics 12",
        module="mmlearn.images_for_language.zero_shot",
        oracle="sklearn.linear_model.Ridge and RidgeCV; the formulas by loops",
    ),
    System(
        name="Token-image matching",
        section="3.5.1",
        paper="Tan and Bansal (2020), Vokenization: Improving Language Understanding with Contextualized, "
              "Visual-Grounded Supervision, EMNLP, arXiv:2010.06775",
        module="mmlearn.images_for_language.token_image_matching",
        model="mmlearn.images_for_language.token_image_matching:TokenImageMatcher",
        configurations=(
            Configuration("paper", "mmlearn.images_for_language.token_image_matching:MatcherConfig.paper",
                          1_344_128, "counted in the released code, airsplay/vokenization: words 803,136, "
                                     "pictures 540,992, over frozen backbones"),
            Configuration("mini", "mmlearn.images_for_language.token_image_matching:MatcherConfig.mini"),
        ),
        oracle="transformers.BertModel, torchvision's ResNets with the released small networks; the loss by "
               "loops",
        weights="coco_hinge05_dim64_resxt101_bertl4 of airsplay/vokenization (code MIT)",
    ),
    System(
        name="Vokenizer",
        section="3.5.1",
        paper="Tan and Bansal (2020), Vokenization: Improving Language Understanding with Contextualized, "
              "Visual-Grounded Supervision, EMNLP, arXiv:2010.06775",
        module="mmlearn.images_for_language.vokenizer",
        oracle="faiss' IndexFlatL2 and IndexFlatIP; all distances one by one",
    ),
    System(
        name="Revokenizer",
        section="3.5.1",
        paper="Tan and Bansal (2020), Vokenization: Improving Language Understanding with Contextualized, "
              "Visual-Grounded Supervision, EMNLP, arXiv:2010.06775",
        module="mmlearn.images_for_language.revokenization",
        oracle="trying all source tokens; the offsets of the tokenizers library",
    ),
    System(
        name="Voken language model",
        section="3.5.1",
        paper="Tan and Bansal (2020), Vokenization: Improving Language Understanding with Contextualized, "
              "Visual-Grounded Supervision, EMNLP, arXiv:2010.06775",
        module="mmlearn.images_for_language.voken_lm",
        model="mmlearn.images_for_language.voken_lm:VokenLM",
        configurations=(
            Configuration("base", "mmlearn.images_for_language.voken_lm:VokenLMConfig.base", 148_556_426,
                          "transformers.BertForMaskedLM, 109,514,298, and the head of the released code, "
                          "39,042,128"),
            Configuration("small", "mmlearn.images_for_language.voken_lm:VokenLMConfig.small", 61_013_642,
                          "transformers.BertForMaskedLM, 35,099,962, and the head of the released code, "
                          "25,913,680"),
            Configuration("mini", "mmlearn.images_for_language.voken_lm:VokenLMConfig.mini"),
        ),
        oracle="transformers.BertForMaskedLM with the released head; the losses by loops",
        weights="vlm_12L_768H_wiki, vlm_roberta_12L_768H_wiki of airsplay/vokenization (code MIT)",
    ),
    System(
        name="VQGAN+CLIP",
        section="3.6",
        paper="Crowson et al. (2022), VQGAN-CLIP: Open Domain Image Generation and Editing with Natural "
              "Language Guidance, ECCV, arXiv:2204.08583",
        module="mmlearn.images_for_language.vqgan_clip",
        model="mmlearn.images_for_language.vqgan_clip:VQGANCLIP",
        configurations=(
            *(Configuration(name, f"mmlearn.images_for_language.vqgan_clip:VQGANCLIPConfig.{name}",
                            227_351_172, "VQGAN's 76,073,859 and CLIP's 151,277,313, counted in their "
                                         "authors' code") for name in ("paper", "small")),
            Configuration("mini", "mmlearn.images_for_language.vqgan_clip:VQGANCLIPConfig.mini"),
        ),
        oracle="the formulas by loops; torchvision's warps and colours; torch.autograd.gradcheck",
        weights="those of VQGAN and of CLIP",
    ),
    System(
        name="iACE",
        section="3.6",
        paper="Lu et al. (2022), Imagination-Augmented Natural Language Understanding, NAACL, "
              "arXiv:2204.08535",
        module="mmlearn.images_for_language.iace",
        model="mmlearn.images_for_language.iace:IACE",
        configurations=(
            *(Configuration(name, f"mmlearn.images_for_language.iace:IACEConfig.{name}", 110_272_260,
                            "109,483,778 of transformers' BertForSequenceClassification and 788,482 of the "
                            "head, counted in the authors' code, YujieLu10/IACE-NLU")
              for name in ("base", "released")),
            Configuration("nli", "mmlearn.images_for_language.iace:IACEConfig.nli", 110_273_542,
                          "the same with three classes: 109,484,547 and 788,995"),
            Configuration("mini", "mmlearn.images_for_language.iace:IACEConfig.mini"),
        ),
        oracle="transformers' BertForSequenceClassification; the head's formula by loops",
        weights="those of BERT, of VQGAN and of CLIP",
    ),
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


def published(name: str) -> dict[str, int]:
    """The published parameter counts of a system's configurations, by their names. Raises ``KeyError`` for
    another name."""
    system = {system.name: system for system in SYSTEMS}[name]
    return {c.name: c.published for c in system.configurations if c.published is not None}


def registered(command: str) -> System:
    """The system of that name on the command line. Raises ``ValueError`` that lists the names."""
    found = next((system for system in SYSTEMS if system.command == command), None)
    if found is None:
        names = ", ".join(system.command for system in SYSTEMS if system.command)
        raise ValueError(f"there is no system {command!r}; known are {names}")
    return found


def kinds(*commands: str) -> dict[str, tuple[type, type]]:
    """Classes of configuration and model of some systems, as ``checkpoints.load_model`` wants them."""
    found = [registered(command) for command in commands]
    return {system.command: (resolve(system.configurations[0].build.rpartition(".")[0]),
                             resolve(str(system.model)))
            for system in found}


def resolve(path: str) -> Any:
    """What "package.module:Name.attribute" names."""
    module, _, names = path.partition(":")
    found: Any = importlib.import_module(module)
    for name in names.split("."):
        found = getattr(found, name)
    return found


def build(system: System, configuration: Configuration, device: str = "meta") -> nn.Module:
    """The model of ``system`` at ``configuration``, on ``device``; on "meta" it takes no memory."""
    if system.model is None:
        raise ValueError(f"{system.name} has no model to build; see {system.module}")
    model: Callable[..., nn.Module] = resolve(system.model)
    with torch.device(device):
        return model(resolve(configuration.build)())


def count_parameters(model: nn.Module) -> int:
    """Number of trainable parameters."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


@cache
def parameters(system: System, configuration: Configuration) -> int:
    """Trainable parameters of a configuration, counted on the meta device."""
    return count_parameters(build(system, configuration))


def as_records() -> list[dict[str, Any]]:
    """The catalogue as plain lists and dictionaries, ready for JSON."""
    return [
        {
            "name": system.name, "section": system.section, "paper": system.paper,
            "configurations": [
                {"name": c.name, "parameters": parameters(system, c), "published": c.published,
                 "source": c.source}
                for c in system.configurations
            ],
            "oracle": system.oracle, "weights": system.weights, "equations": list(system.equations),
        }
        for system in SYSTEMS
    ]
