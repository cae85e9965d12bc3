"""The systems of chapter 3."""

from mmlearn.catalog.entry import Configuration, System

SYSTEMS: tuple[System, ...] = (
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
        name="Word vectors and analogies",
        section="3.2",
        paper="Mikolov, Yih and Zweig (2013), Linguistic Regularities in Continuous Space Word "
              "Representations, NAACL-HLT; Levy and Goldberg (2014), Linguistic Regularities in Sparse and "
              "Explicit Word Representations, CoNLL",
        module="mmlearn.data.word_vectors",
        oracle="gensim.models.KeyedVectors: files, neighbours, analogies",
        weights="any file of word2vec's or GloVe's formats",
    ),
    System(
        name="Similarity of words",
        section="3.2",
        paper="Spearman (1904), The Proof and Measurement of Association between Two Things, American "
              "Journal of Psychology 15; Efron (1979), Bootstrap Methods: Another Look at the Jackknife, "
              "Annals of Statistics 7",
        module="mmlearn.metrics.similarity",
        oracle="scipy.stats.spearmanr; gensim's evaluate_word_pairs and evaluate_word_analogies",
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
        name="Contextual vectors made static",
        section="3.2",
        paper="Pezzelle, Takmaz and Fernández (2021), Word Representation Learning in Multimodal Pre-Trained "
              "Transformers: An Intrinsic Evaluation, TACL 9",
        module="mmlearn.images_for_language.contextual",
        oracle="the formulas by loops",
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
        name="Pseudo-sentences",
        section="3.4",
        paper="Hill and Korhonen (2014), Learning Abstract Concept Embeddings from Multi-Modal Data: Since "
              "You Probably Can't See What I Mean, EMNLP",
        module="mmlearn.images_for_language.pseudo_sentences",
        oracle="expected counts",
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
        name="Self-attention",
        section="3.5",
        paper="Vaswani et al. (2017), Attention Is All You Need, arXiv:1706.03762",
        module="mmlearn.images_for_language.self_attention",
        oracle="the formulas one token at a time; torch.nn.RNN for the recurrence",
    ),
    System(
        name="Token-image matching",
        section="3.5.1",
        paper="Tan and Bansal (2020), Vokenization: Improving Language Understanding with Contextualized, "
              "Visual-Grounded Supervision, EMNLP, arXiv:2010.06775",
        module="mmlearn.images_for_language.token_image_matching",
        model="mmlearn.images_for_language.token_image_matching:TokenImageMatcher",
        command="token-image-matcher",
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
        command="voken-lm",
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
)
