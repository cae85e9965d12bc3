"""The systems of chapter 2's second half: autoencoders, codes, DALL-E, diffusion, GLIDE and what followed."""

from mmlearn.catalog.entry import Configuration, System

SYSTEMS: tuple[System, ...] = (
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
)
