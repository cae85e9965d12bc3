"""The systems of chapter 5."""

from mmlearn.catalog.entry import Configuration, System

SYSTEMS: tuple[System, ...] = (
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
)
