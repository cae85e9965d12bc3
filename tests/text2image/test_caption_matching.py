"""What is measured without a classifier: does the reader of a run find the caption of a picture?"""

import torch
import torch.nn.functional as F

from mmlearn.nn.modes import seeded
from mmlearn.text2image.damsm import DAMSM, DAMSMConfig
from mmlearn.text2image.training import text_match


def test_text_match_counts_the_pictures_whose_caption_is_nearer_than_any_of_another_kind():
    with seeded(0):
        damsm = DAMSM(DAMSMConfig.mini(30, 16)).eval()
        tokens, images = torch.randint(4, 30, (12, 5)), torch.rand(12, 3, 16, 16) * 2 - 1
    kinds = torch.arange(12) // 2
    with torch.no_grad():
        u, v = damsm.image(images)[1], damsm.text(tokens)[1]
    right = 0
    for i in range(12):
        cosines = [float(F.cosine_similarity(u[i], v[j], dim=0)) for j in range(12)]
        right += cosines[i] > max(cosines[j] for j in range(12) if kinds[j] != kinds[i])
    found = text_match(images, lambda x: damsm.image(x)[1], damsm.text, tokens, kinds)
    assert (round(found.precision * 12), found.candidates) == (right, 10)
    own = text_match(torch.arange(12).view(12, 1, 1, 1).expand(-1, 3, 1, 1).float(),
                     lambda x: v[x[:, 0, 0, 0].long()], damsm.text, tokens, torch.arange(12), most=5)
    assert (own.precision, own.candidates) == (1.0, 5)
    assert text_match(images, lambda x: damsm.image(x)[1], damsm.text, tokens, torch.zeros(12).long()) is None
