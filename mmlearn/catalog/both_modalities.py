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
)
