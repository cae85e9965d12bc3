"""A tiny CLIP in Hugging Face's layout, with CLIP's own tokeniser, and pictures to show it."""

import numpy as np
import pytest
import torch
from PIL import Image

from mmlearn.data.clip_tokeniser import CLIPTokeniser


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory):
    """Random weights of ``transformers.CLIPModel`` at 32 pixels, its image processor and list of merges."""
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

    folder = tmp_path_factory.mktemp("clip")
    torch.manual_seed(0)
    text = {"vocab_size": 49_408, "hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 1,
            "num_attention_heads": 1, "max_position_embeddings": 77, "eos_token_id": 49_407,
            "bos_token_id": 49_406, "projection_dim": 16}
    image = {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 1, "num_attention_heads": 1,
             "image_size": 32, "patch_size": 8, "projection_dim": 16}
    CLIPModel(CLIPConfig(text_config=text, vision_config=image,
                         projection_dim=16)).eval().save_pretrained(folder)
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(
        folder
    )
    merges = CLIPTokeniser.find().ranks
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(f"{a} {b}" for a, b in merges) + "\n",
                                       encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    """A folder of three pictures, one of them in a folder of its own."""
    folder = tmp_path_factory.mktemp("pictures")
    (folder / "more").mkdir()
    for i, name in enumerate(("a.png", "b.jpg", "more/c.png")):
        noise = np.random.default_rng(i).integers(0, 256, (40, 50, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / name)
    return folder
