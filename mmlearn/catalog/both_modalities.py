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
    System(
        name="data2vec vision",
        section="5.1",
        paper="Baevski et al. (2022), data2vec: A General Framework for Self-supervised Learning in Speech, "
              "Vision and Language, ICML, arXiv:2202.03555; Bao et al. (2022), BEiT, arXiv:2106.08254; "
              "Touvron et al. (2021), LayerScale, arXiv:2103.17239; Huang et al. (2016), stochastic depth, "
              "arXiv:1603.09382",
        module="mmlearn.both_modalities.data2vec_vision",
        model="mmlearn.both_modalities.data2vec_vision:Data2VecVision",
        command="data2vec",
        trainer="mmlearn.cli.train_data2vec",
        configurations=(
            Configuration("base", "mmlearn.both_modalities.data2vec_vision:Data2VecVisionConfig.base",
                          85_664_592, "transformers.Data2VecVisionModel, shared bias, mask token"),
            Configuration("large", "mmlearn.both_modalities.data2vec_vision:Data2VecVisionConfig.large",
                          303_135_168, "transformers.Data2VecVisionModel, shared bias, mask token"),
            Configuration("base_fine_tuned",
                          "mmlearn.both_modalities.data2vec_vision:Data2VecVisionConfig.base_fine_tuned",
                          85_761_216, "transformers.Data2VecVisionModel, bias a layer, mask token"),
            Configuration("mini", "mmlearn.both_modalities.data2vec_vision:Data2VecVisionConfig.mini"),
        ),
        oracle="transformers.Data2VecVisionModel, BeitModel and their classifiers; timm's Beit",
        weights="facebook/data2vec-vision-base, -large and their -ft1k (pages: Apache-2.0, repository: "
                "CC BY-NC 4.0); microsoft/beit-base-patch16-224 and others (Apache-2.0)",
    ),
    System(
        name="ViT",
        section="5.1",
        paper="Dosovitskiy et al. (2021), An Image is Worth 16x16 Words: Transformers for Image Recognition "
              "at Scale, ICLR, arXiv:2010.11929",
        module="mmlearn.both_modalities.vit",
        model="mmlearn.both_modalities.vit:ViT",
        configurations=(
            Configuration("base_16", "mmlearn.both_modalities.vit:ViTClassifierConfig.base_16",
                          85_798_656, "transformers.ViTModel without its pooler (the paper: 86 M)"),
            Configuration("large_16", "mmlearn.both_modalities.vit:ViTClassifierConfig.large_16",
                          303_301_632, "transformers.ViTModel without its pooler (the paper: 307 M)"),
            Configuration("huge_14", "mmlearn.both_modalities.vit:ViTClassifierConfig.huge_14"),
            Configuration("mini", "mmlearn.both_modalities.vit:ViTClassifierConfig.mini"),
        ),
        oracle="transformers.ViTModel; timm's resampling of positions",
    ),
    System(
        name="data2vec speech",
        section="5.1",
        paper="Baevski et al. (2022), data2vec: A General Framework for Self-supervised Learning in Speech, "
              "Vision and Language, ICML, arXiv:2202.03555; Baevski et al. (2020), wav2vec 2.0, NeurIPS, "
              "arXiv:2006.11477",
        module="mmlearn.both_modalities.data2vec_speech",
        model="mmlearn.both_modalities.data2vec_speech:Data2VecSpeech",
        configurations=(
            Configuration("base", "mmlearn.both_modalities.data2vec_speech:Data2VecSpeechConfig.base",
                          93_164_288, "transformers.Data2VecAudioModel, its default configuration"),
            Configuration("large", "mmlearn.both_modalities.data2vec_speech:Data2VecSpeechConfig.large",
                          313_276_416, "transformers.Data2VecAudioModel with the sizes in config.json of "
                                       "facebook/data2vec-audio-large-960h"),
            Configuration("mini", "mmlearn.both_modalities.data2vec_speech:Data2VecSpeechConfig.mini"),
        ),
        oracle="transformers.Data2VecAudioModel: states, and the outputs of output_dense",
        weights="facebook/data2vec-audio-base, -base-960h, -large-960h (Apache-2.0 on their pages); "
                "audio_base_ls.pt and others of fairseq",
    ),
    System(
        name="Speech recognition by CTC",
        section="5.1",
        paper="Graves, Fernández, Gomez and Schmidhuber (2006), Connectionist Temporal Classification, ICML",
        module="mmlearn.both_modalities.speech_recognition",
        oracle="transformers.Data2VecAudioForCTC, Wav2Vec2CTCTokenizer; the sum over all paths by a loop",
        weights="facebook/data2vec-audio-base-960h, -large-960h",
    ),
    System(
        name="ViLBERT",
        section="5.2",
        paper="Lu, Batra, Parikh and Lee (2019), ViLBERT: Pretraining Task-Agnostic Visiolinguistic "
              "Representations for Vision-and-Language Tasks, NeurIPS, arXiv:1908.02265",
        module="mmlearn.both_modalities.vilbert",
        model="mmlearn.both_modalities.vilbert_pretraining:ViLBERTForPreTraining",
        command="vilbert",
        trainer="mmlearn.cli.train_vilbert",
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
    System(
        name="Flamingo",
        section="5.3",
        paper="Alayrac et al. (2022), Flamingo: a Visual Language Model for Few-Shot Learning, NeurIPS, "
              "arXiv:2204.14198; Awadalla et al. (2023), OpenFlamingo, arXiv:2308.01390",
        module="mmlearn.both_modalities.flamingo",
        model="mmlearn.both_modalities.flamingo:FlamingoAdapter",
        command="flamingo",
        trainer="mmlearn.cli.train_flamingo",
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
    System(
        name="Causal language model",
        section="5.3",
        paper="Radford et al. (2019), Language Models are Unsupervised Multitask Learners; Zhang et al. "
              "(2022), OPT, arXiv:2205.01068; Hoffmann et al. (2022), Training Compute-Optimal Large "
              "Language Models, arXiv:2203.15556; Awadalla et al. (2023), OpenFlamingo, arXiv:2308.01390",
        module="mmlearn.nn.causal_lm",
        model="mmlearn.nn.causal_lm:CausalLM",
        command="causal-lm",
        configurations=(
            Configuration("gpt2", "mmlearn.nn.causal_lm:CausalLMConfig.gpt2", 124_439_808,
                          "counted in transformers.GPT2LMHeadModel (published: 117M, later 124M)"),
            Configuration("gpt2_medium", "mmlearn.nn.causal_lm:CausalLMConfig.gpt2_medium", 354_823_168,
                          "counted in transformers.GPT2LMHeadModel (published: 345M, later 355M)"),
            Configuration("gpt2_large", "mmlearn.nn.causal_lm:CausalLMConfig.gpt2_large", 774_030_080,
                          "counted in transformers.GPT2LMHeadModel (published: 774M)"),
            Configuration("gpt2_xl", "mmlearn.nn.causal_lm:CausalLMConfig.gpt2_xl", 1_557_611_200,
                          "counted in transformers.GPT2LMHeadModel (published: 1542M, later 1558M)"),
            Configuration("opt_125m", "mmlearn.nn.causal_lm:CausalLMConfig.opt_125m", 125_239_296,
                          "counted in transformers.OPTForCausalLM (published: 125M)"),
            Configuration("opt_1b3", "mmlearn.nn.causal_lm:CausalLMConfig.opt_1b3", 1_315_758_080,
                          "counted in transformers.OPTForCausalLM (published: 1.3B)"),
            Configuration("opt_6b7", "mmlearn.nn.causal_lm:CausalLMConfig.opt_6b7", 6_658_473_984,
                          "counted in transformers.OPTForCausalLM (published: 6.7B)"),
            Configuration("mpt_1b", "mmlearn.nn.causal_lm:CausalLMConfig.mpt_1b", 1_311_442_944,
                          "by the released config.json: (12 l d + 4 l + v + 1) d (published: 1.3B)"),
            Configuration("redpajama_3b", "mmlearn.nn.causal_lm:CausalLMConfig.redpajama_3b", 2_775_864_320,
                          "counted in transformers.GPTNeoXForCausalLM (published: 2.8B)"),
            Configuration("mpt_7b", "mmlearn.nn.causal_lm:CausalLMConfig.mpt_7b", 6_649_286_656,
                          "counted in transformers.MptForCausalLM (published: 6.7B)"),
            Configuration("chinchilla_1b4", "mmlearn.nn.causal_lm:CausalLMConfig.chinchilla_1b4"),
            Configuration("chinchilla_7b", "mmlearn.nn.causal_lm:CausalLMConfig.chinchilla_7b"),
            Configuration("chinchilla_70b", "mmlearn.nn.causal_lm:CausalLMConfig.chinchilla_70b"),
            Configuration("mini", "mmlearn.nn.causal_lm:CausalLMConfig.mini"),
        ),
        oracle="transformers.GPT2LMHeadModel, OPTForCausalLM, GPTNeoXForCausalLM, MptForCausalLM: logits, "
               "also with padding, and greedy search",
        weights="openai-community/gpt2 (MIT) and its larger sizes; facebook/opt-125m, -1.3b, -2.7b, -6.7b; "
                "mosaicml/mpt-1b-redpajama-200b, mpt-7b; togethercomputer/RedPajama-INCITE-Base-3B-v1 "
                "(Apache-2.0)",
    ),
    System(
        name="Pages of pictures and text",
        section="5.3",
        paper="Alayrac et al. (2022), Flamingo: a Visual Language Model for Few-Shot Learning, NeurIPS, "
              "arXiv:2204.14198; Awadalla et al. (2023), OpenFlamingo, arXiv:2308.01390",
        module="mmlearn.both_modalities.interleaved",
        oracle="the formulas by loops",
    ),
    System(
        name="Few-shot prompts",
        section="5.3",
        paper="Yang et al. (2022), An Empirical Study of GPT-3 for Few-Shot Knowledge-Based VQA, AAAI, "
              "arXiv:2109.05014; Perez, Kiela and Cho (2021), True Few-Shot Learning with Language Models, "
              "NeurIPS, arXiv:2105.11447",
        module="mmlearn.both_modalities.few_shot",
        oracle="the formulas by loops",
    ),
    System(
        name="Visual prefix",
        section="5.3",
        paper="Tsimpoukelli et al. (2021), Multimodal Few-Shot Learning with Frozen Language Models, "
              "NeurIPS, arXiv:2106.13884; Liu et al. (2023), Visual Instruction Tuning (LLaVA), NeurIPS, "
              "arXiv:2304.08485; Liu et al. (2024), Improved Baselines with Visual Instruction Tuning, CVPR, "
              "arXiv:2310.03744",
        module="mmlearn.both_modalities.visual_prefix",
        model="mmlearn.both_modalities.visual_prefix:Projection",
        configurations=tuple(
            Configuration(name, f"mmlearn.both_modalities.visual_prefix:VisualPrefixConfig.{name}", count,
                          "by the sizes of the released configurations: CLIP ViT-L/14 is 1,024 wide, Vicuna "
                          "4,096 or 5,120")
            for name, count in (("llava_7b", 4_198_400), ("llava_13b", 5_248_000),
                                ("llava_15_7b", 20_979_712), ("llava_15_13b", 31_467_520))
        ) + (Configuration("mini", "mmlearn.both_modalities.visual_prefix:VisualPrefixConfig.mini"),),
        oracle="the formulas by loops; the language model on vectors set side by side",
    ),
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
        configurations=(Configuration("mini", "mmlearn.both_modalities.walker:WalkerConfig.mini"),
                        Configuration("frozen", "mmlearn.both_modalities.walker:WalkerConfig.frozen")),
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
