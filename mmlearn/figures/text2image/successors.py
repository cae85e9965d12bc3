"""Diagrams of section 2.1.3: StackGAN and its second version, AttnGAN and DAMSM, DM-GAN, DF-GAN.

Papers: H. Zhang et al. (2017), *StackGAN*, arXiv:1612.03242, sec. 3; H. Zhang et al. (2018), *StackGAN++*,
arXiv:1710.10916, sec. 3-4; T. Xu et al. (2018), *AttnGAN*, arXiv:1711.10485, sec. 3; M. Zhu et al. (2019),
*DM-GAN*, arXiv:1904.01310, sec. 3; M. Tao et al. (2022), *DF-GAN*, arXiv:2008.05865, sec. 3.  Survey: 2.1.3.

Colours as in ``architecture``: violet is what a system adds to the one before it, boxes without colour were
there before. Sizes are those of the papers' birds.
"""

import numpy as np

from mmlearn.figures.diagram import Diagram, Number
from mmlearn.figures.text2image.architecture import CAPTION, X_HAT, noise_box, real_picture, stand_in
from mmlearn.text2image.attngan import AttnGANConfig
from mmlearn.text2image.damsm import DAMSMConfig
from mmlearn.text2image.dfgan import DFGANConfig
from mmlearn.text2image.dmgan import DMGANConfig
from mmlearn.text2image.stackgan import StackGANConfig, StackGANv2Config

E_BAR, V_BAR, C_HAT = "e\u0304", "v\u0304", "c\u0302"           # sentence, picture as one vector, condition
V_TILDE = "v\u0303"                                             # what a word reads of the regions


def stackgan(config: StackGANConfig | None = None) -> Diagram:
    """StackGAN's two stages, and how a condition is drawn from the caption."""
    config = config or StackGANConfig.paper()
    e, c, z, s, g = config.text, config.condition, config.noise, config.size, config.width
    drawn = Diagram(470, 640, (
        f"StackGAN. Conditioning augmentation: a linear layer makes mean mu and deviation sigma, {c} numbers "
        f"each, from the caption's {e} numbers phi(t); the condition is mu plus sigma times noise epsilon, "
        "and a divergence loss pulls its distribution to the standard normal one. Stage I: condition and "
        f"{z} numbers of noise become a sketch of {s} by {s}, judged by its own discriminator D_0. Stage II, "
        "trained after stage I, which is then frozen: the sketch is reduced to "
        f"{4 * g} maps of {s // 4} by {s // 4}, a condition from an augmentation of its own is joined "
        f"at each place, {config.residual} residual blocks and four up blocks give a picture of {4 * s} by "
        f"{4 * s}, judged by D_1. Violet, added to GAN-CLS: conditioning augmentation and the second stage."))
    drawn.group(235, 84, 450, 148, "conditioning augmentation", "new")
    phi = drawn.box(60, 62, f"φ(*t*)\n{e}", "text", 74, 46)
    linear = drawn.box(156, 62, "linear", "new", 72, 32)
    mu = drawn.box(252, 38, f"*μ*, {c}", "new", 74, 30)
    sigma = drawn.box(252, 88, f"*σ*, {c}", "new", 74, 30)
    times, plus = drawn.node(330, 88, "⊙", "new"), drawn.node(330, 38, "+", "new")
    drawn.arrow(phi, linear, role="text")
    drawn.arrow(linear, mu, role="new")
    drawn.arrow(linear, sigma, role="new")
    drawn.arrow(sigma, times, role="new")
    drawn.arrow(times, plus, role="new")
    drawn.arrow(mu, plus, role="new")
    drawn.text(334, 130, "*ε* ~ N(0, *I*)", 13, "soft")
    drawn.arrow((330, 120), times)
    drawn.arrow(plus, (388, 38), role="new")
    drawn.text(394, 38, f"*{C_HAT}*, {c}", 15, "new", "start", 600)
    drawn.text(376, 88, "loss *λ* KL", 14, "loss", "start", 600)
    # stage I
    drawn.group(235, 250, 450, 152)
    drawn.text(24, 192, "stage I, trained first, then frozen", 14, anchor="start", weight=600)
    noise = noise_box(drawn, 48, 256, below=str(z))
    join = drawn.node(104, 256, "⊕")
    drawn.arrow(noise, join)
    drawn.text(104, 216, f"*{C_HAT}*_0", 15, "new", weight=600)
    drawn.arrow((104, 226), join, role="new")
    G = drawn.box(203, 256, "*G*_0\nlinear, 4 × up", "", 106, 50)
    drawn.arrow(join, G, str(c + z))
    sketch = drawn.image(304, 256, stand_in(real_picture(20), 6), 56)
    drawn.text(304, 296, f"sketch, 3 × {s}^2", 13, "image")
    drawn.arrow(G, sketch)
    judge = drawn.box(403, 256, "*D*_0\npicture, text", "", 100, 46)
    drawn.arrow(sketch, judge)
    # stage II
    drawn.group(235, 486, 450, 284, "", "new")
    drawn.text(24, 364, "stage II", 14, "new", "start", 600)
    down = drawn.box(304, 392, "down, down", "new", 104, 32)
    drawn.arrow((304, 305), down)
    join = drawn.node(208, 392, "⊕", "new")
    drawn.arrow(down, join)
    drawn.text(260, 424, f"{4 * g} × {s // 4}^2", 13, "soft", "start")
    drawn.text(124, 392, f"own *{C_HAT}*, {c}", 14, "new", weight=600)
    drawn.arrow((170, 392), join, role="new")
    residual = drawn.box(208, 470, f"{config.residual} residual blocks", "new", 150, 32)
    drawn.arrow(join, residual, f"{4 * g + c} × {s // 4}^2", side=-1)
    up = drawn.box(208, 546, "4 × up", "new", 84, 32)
    drawn.arrow(residual, up, f"{4 * g} × {s // 4}^2", side=-1)
    fine = drawn.image(322, 546, stand_in(real_picture(), 2), 92)
    drawn.arrow(up, fine)
    drawn.text(322, 606, f"picture, 3 × {4 * s}^2", 13, "image")
    judge = drawn.box(420, 546, "*D*_1\nand text", "new", 68, 46)
    drawn.arrow(fine, judge)
    return drawn


def stackgan_v2(config: StackGANv2Config | None = None) -> Diagram:
    """StackGAN's second version: three branches that grow from each other and are trained at once."""
    config = config or StackGANv2Config.paper()
    g, c, sizes = config.width, config.condition, config.sizes
    drawn = Diagram(470, 470, (
        f"StackGAN's second version. Conditioning augmentation draws {c} numbers from the caption's "
        f"{config.text}; with {config.noise} numbers of noise they become a first map of {g} by {sizes[0]} "
        "by "
        f"{sizes[0]}. Each further branch joins the condition at each place, passes residual blocks, halves "
        "the channels and doubles the side. Every map gives a picture, of "
        f"{', '.join(map(str, sizes))} pixels a side, with a discriminator of two outputs, one for the "
        "picture alone and one for picture and condition. All are trained at once. Violet, added to the "
        "first version: maps, not sketches, go on, and every branch has its own judge of two outputs."))
    augment = drawn.box(90, 62, "conditioning\naugmentation", "", 116, 48)
    drawn.text(32, 12, f"φ(*t*), {config.text}", 13, "text", "start")
    drawn.arrow((90, 20), augment, role="text")
    noise_box(drawn, 404, 62, below=str(config.noise))
    rows = [150, 262, 382]
    steps = [drawn.box(210, y, f"*F*_{i}\n{'linear, 4 × up' if i == 0 else 'residual, up'}",
                       "new" if i else "", 112, 48) for i, y in enumerate(rows)]
    drawn.arrow((398, 62), (232, 126), sides="lt", via=((232, 62),))
    drawn.line([(56, 86), (56, 382)], "text")
    drawn.text(64, 112, f"*{C_HAT}*, {c}", 13, "text", "start")
    for i, (step, y) in enumerate(zip(steps, rows)):
        drawn.arrow((56, y), step, "" if i == 0 else "at each place", "text", sides="rl")
        if i:
            drawn.arrow(steps[i - 1], step, f"*h*_{i}, {g >> (i - 1)} × {sizes[i - 1]}^2", "new")
        side = (44, 60, 80)[i]
        seen = drawn.image(330, y, stand_in(real_picture((24, 48, 96)[i]), (5, 4, 2)[i]), side)
        drawn.arrow(step, seen)
        drawn.text(330, y + side / 2 + 12, f"3 × {sizes[i]}^2", 13, "image")
        judge = drawn.box(404, y, f"*D*_{i}", "new", 44, 44)
        drawn.arrow(seen, judge)
        drawn.arrow(judge.at("r", 0.25), (444, y - 11), role="new", sides="rl")
        drawn.arrow(judge.at("r", 0.75), (444, y + 11), role="new", sides="rl")
    drawn.text(235, 458, "two outputs of each *D_i*: real? and: does it fit the text?", 13, "new")
    return drawn


def attngan(config: AttnGANConfig | None = None) -> Diagram:
    """AttnGAN's generator: a first map from the sentence, further ones that read the words; the weights of
    one place below."""
    config = config or AttnGANConfig.cub()
    g, e, c, sizes = config.width, config.text, config.condition, config.sizes
    drawn = Diagram(470, 716, (
        f"AttnGAN. A frozen bidirectional LSTM gives the caption's words e, T by {e}, and its sentence, {e}. "
        f"Conditioning augmentation draws {c} numbers from the sentence; with the noise of {config.noise} "
        f"they become a first map of {g} by {sizes[0]} by {sizes[0]}. Each further branch lets every place "
        "of the map read the words by attention, joins what it read to the place, and doubles the side by "
        f"residual blocks and an up block. Every map gives a picture, of {', '.join(map(str, sizes))} pixels "
        "a side, with a discriminator of its own. DAMSM compares the largest picture with words and "
        "sentence. Below: one place j of the map weighs the words by a softmax of products, and reads their "
        "weighted sum c_j. Violet, added to StackGAN's second version: attention and DAMSM."))
    drawn.text(20, 18, f"“{CAPTION}”", 14, "text", "start")
    encoder = drawn.box(86, 68, "bi-LSTM\nof DAMSM, frozen", "frozen", 132, 48)
    augment = drawn.box(264, 68, "conditioning\naugmentation", "", 116, 48)
    drawn.arrow(encoder, augment, f"*{E_BAR}*, {e}", "text")
    noise_box(drawn, 404, 68, below=str(config.noise))
    rows = [166, 282, 402]
    steps = [drawn.box(264, y, f"*F*_{i}\n{'linear, 4 × up' if i == 0 else 'residual, up'}", "", 108, 48)
             for i, y in enumerate(rows)]
    drawn.arrow(augment, steps[0], f"*{C_HAT}*, {c}", side=-1)
    drawn.arrow((398, 68), (294, 142), sides="lt", via=((350, 68), (350, 118), (294, 118)))
    reads = [drawn.box(124, y, "attention\nover words", "new", 104, 48) for y in rows[1:]]
    drawn.line([(36, 92), (36, 494)], "text")
    drawn.text(44, 124, "words *e*", 13, "text", "start", halo=True)
    drawn.text(44, 141, f"*T* × {e}", 13, "text", "start", halo=True)
    for i, (read, y) in enumerate(zip(reads, rows[1:])):
        drawn.arrow((36, y), read, role="text", sides="rl")
        drawn.arrow(read, steps[i + 1], "*c*", "new")
        h = steps[i].at("b", 0.6)
        drawn.arrow(h, steps[i + 1].at("t", 0.6), f"*h*_{i + 1}, {g} × {sizes[i]}^2")
        drawn.arrow((h[0], y - 56), read, sides="lt")
    for i, (step, y) in enumerate(zip(steps, rows)):
        side = (44, 56, 68)[i]
        seen = drawn.image(366, y, stand_in(real_picture((24, 48, 96)[i])), side)
        drawn.arrow(step, seen)
        drawn.text(372, y + side / 2 + 12, f"3 × {sizes[i]}^2", 13, "image")
        drawn.arrow(seen, drawn.box(440, y, f"*D*_{i}", "", 44, 32))
    drawn.text(352, 480, "each *D_i* judges", 13, "soft", "start")
    drawn.text(352, 497, f"alone and with *{E_BAR}*", 13, "soft", "start")
    match = drawn.box(186, 494, "DAMSM: words fit regions?", "new", 236, 34)
    drawn.arrow((36, 494), match, role="text", sides="rl")
    drawn.arrow((338, 436), match, sides="br", via=((338, 494),))
    loss = drawn.box(186, 540, f"*λ* *L*_{{DAMSM}}, *λ* = {config.damsm_weight:g}", "loss", 180, 30)
    drawn.arrow(match, loss, role="loss")
    _one_place(drawn, 640, g)
    return drawn


def _one_place(drawn: Diagram, y: Number, g: Number) -> None:
    """The attention of one place, with weights that are made up."""
    drawn.group(235, y, 446, 136, "", "new")
    pixels = stand_in(real_picture(64))
    drawn.image(74, y + 6, pixels, 96)
    drawn.rect(68, y - 6, 14, 14, "new", 1, ' style="fill:none;stroke-width:3"')
    drawn.text(74, y - 54, "place *j* of *h*", 13, "new", weight=600)
    words = list(zip(CAPTION.split(), (0.03, 0.52, 0.38, 0.02, 0.01, 0.04)))
    for i, (word, share) in enumerate(words):
        level = y - 50 + 20 * i
        drawn.text(222, level, word, 14, "text", "end")
        drawn.bar(230, level, 90 * share, 11, "new")
        drawn.line([(75, y - 6), (160, level)], "new", dashed=share < 0.1)
    drawn.text(296, y - 32, "*β_{jt}* = softmax_t", 14, "new", "start", 600)
    drawn.text(330, y - 10, "(*h_j*^{⊤}*e*′_t)", 14, "new", "start", 600)
    drawn.text(296, y + 20, "*c_j* = Σ_t *β_{jt}* *e*′_t", 14, "new", "start", 600)
    drawn.text(296, y + 46, f"*e*′: words, *T* × {g}", 13, "text", "start")


def damsm(config: DAMSMConfig | None = None) -> Diagram:
    """DAMSM: words and regions, the sentence and the whole picture, and four losses over a batch."""
    config = config or DAMSMConfig.cub()
    d, places = config.embed, 17 * 17 if config.trunk == "inception" else 8 * 8
    drawn = Diagram(470, 650, (
        f"DAMSM. A bidirectional LSTM gives words e, T by {d}, and a sentence, {d}. A frozen Inception-v3 "
        "with a trained linear layer for each "
        f"gives {places} regions v of {d} numbers and one vector of the picture, {d}. Products of words and "
        f"regions, T by {places}, pass a softmax over the words, then, times gamma_1, a softmax over the "
        "regions; each word t so gets its weighted sum of regions, v tilde t. Its cosines with the words e_t "
        "make one score R of caption and picture, the cosine of sentence and picture another. Scores of all "
        "pictures and captions of a batch form a matrix; the right pairs lie on its diagonal, and a softmax "
        "over rows and one over columns give two losses for either score, four in all."))
    drawn.text(20, 20, f"“{CAPTION}”", 14, "text", "start")
    encoder = drawn.box(84, 78, "bi-LSTM", "text", 110, 34)
    drawn.arrow((84, 32), encoder, role="text")
    seen = drawn.image(404, 40, real_picture(), 64)
    trunk = drawn.box(404, 112, "Inception-v3\nfrozen", "frozen", 112, 46)
    drawn.arrow(seen, trunk)
    words, sentence = drawn.matrix(70, 190, ["text"] * 6, 4, 11), drawn.matrix(326, 190, ["text"], 4, 13)
    regions, code = drawn.matrix(204, 190, ["image"] * 6, 6, 11), drawn.matrix(424, 190, ["image"], 4, 13)
    drawn.text(70, 236, f"words *e*, *T* × {d}", 13, "text")
    drawn.text(204, 236, f"regions *v*, {places} × {d}", 13, "image")
    drawn.text(326, 212, f"*{E_BAR}*, {d}", 13, "text")
    drawn.text(424, 212, f"*{V_BAR}*, {d}", 13, "image")
    drawn.arrow((70, 95), words, role="text", sides="bt")
    drawn.arrow(encoder, sentence, role="text", sides="rt")
    drawn.arrow(trunk, regions, "linear", "image", sides="lt")
    drawn.arrow((424, 135), code, "linear", "image", sides="bt", side=-1)
    drawn.group(156, 370, 292, 228, "", "new")
    similarity = drawn.matrix(84, 326, ["new"] * 6, 8, 11, "*s* = *e* *v*^{⊤}")
    drawn.text(84, 370, f"*T* × {places}", 13, "soft")
    drawn.arrow((46, 246), (46, 293), role="text")
    drawn.arrow((204, 246), (122, 293), role="image", sides="bt", bend=0.4)
    over_words = drawn.box(222, 326, "softmax\nover words", "new", 132, 46)
    over_regions = drawn.box(222, 396, "softmax, × *γ*_1\nover regions", "new", 132, 46)
    context = drawn.box(222, 460, f"*{V_TILDE}_t* = Σ_p *α_{{tp}}* *v_p*", "new", 146, 34)
    score = drawn.box(72, 460, f"cos(*{V_TILDE}_t*, *e_t*)", "new", 108, 34)
    drawn.arrow(similarity, over_words)
    drawn.arrow(over_words, over_regions)
    drawn.arrow(over_regions, context)
    drawn.arrow(context, score)
    cosine = drawn.box(375, 326, f"cos(*{V_BAR}*, *{E_BAR}*)", "new", 108, 34)
    drawn.arrow((326, 222), cosine.at("t", 0.3), role="text", sides="bt", bend=0.7)
    drawn.arrow((424, 222), cosine.at("t", 0.7), role="image", sides="bt", bend=0.7)
    for x, name in ((84, "words"), (340, "sentence")):
        for i, j in np.ndindex(4, 4):
            drawn.rect(x + 16 * (j - 1.5), 546 + 16 * (i - 1.5), 16, 16, "new" if i == j else "", 2)
        drawn.text(x - 46, 546, "*R*", 15, "new", weight=600)
        drawn.text(x + 42, 537, "*b* × *b*", 13, "soft", "start")
        drawn.text(x + 42, 555, name, 13, "new", "start", 600)
        drawn.text(x + 20, 602, f"*L*_1^{name[0]} rows, *L*_2^{name[0]} columns", 14, "loss", weight=600)
    drawn.arrow((84, 477), (84, 514), "log Σ_t exp(*γ*_2 cos)", "new")
    drawn.arrow((340, 343), (340, 514), role="new")
    drawn.text(235, 634, "*L*_{DAMSM} = *L*_1^w + *L*_2^w + *L*_1^s + *L*_2^s", 15, "loss", weight=600)
    return drawn


def dmgan(config: DMGANConfig | None = None) -> Diagram:
    """One refinement of DM-GAN: a memory is written for this picture, addressed, read, and answered to."""
    config = config or DMGANConfig.cub()
    r, w = config.width, config.text
    drawn = Diagram(470, 660, (
        f"One refinement block of DM-GAN. Inputs: p places r of {r} numbers and T words w of {w}. Writing: a "
        "gate for each word, a sigmoid of the word and the mean place, mixes the projected word and the "
        f"projected mean into a memory slot of {2 * r} numbers, T slots m. Addressing: products of places "
        f"and keys, {r} numbers each, pass a softmax over the slots, p by T. Reading: each place gets the "
        "weighted sum of values o. Response: a gate for each place mixes o and the old place. Residual "
        "blocks and an up block follow as in AttnGAN. Violet, added to AttnGAN: the memory with its keys and "
        "values, and the two gates."))
    places = drawn.box(76, 34, f"places *r*\n*p* × {r}", "image", 116, 48)
    words = drawn.box(392, 34, f"words *w*\n*T* × {w}", "text", 100, 48)
    drawn.group(269, 184, 382, 204, "1 writing", "new")
    mean = drawn.box(124, 118, "mean", "", 64, 30)
    drawn.arrow((124, places.at("b")[1]), mean, role="image")
    gate = drawn.box(270, 118, "*g^w* = *σ*(*A* *w_i* + *B* *r\u0304*)", "new", 190, 34)
    drawn.arrow(mean, gate)
    drawn.arrow((360, words.at("b")[1]), (330, 101), role="text", sides="bt")
    drawn.text(374, 118, "*T* × 1", 13, "soft", "start")
    from_mean = drawn.box(124, 188, "*M_r*", "new", 60, 32)
    from_words = drawn.box(424, 188, "*M_w*", "new", 60, 32)
    drawn.arrow(mean, from_mean)
    drawn.arrow((424, words.at("b")[1]), from_words, role="text")
    mix = drawn.node(270, 188, "+", "new")
    drawn.arrow(gate, mix, role="new")
    drawn.arrow(from_mean, mix, "× (1 − *g^w*)", "new")
    drawn.arrow(from_words, mix, "× *g^w*", "new")
    memory = drawn.matrix(270, 252, ["new"] * 4, 7, 13)
    drawn.arrow(mix, memory, role="new")
    drawn.text(322, 243, "memory *m*", 14, "new", "start", 600)
    drawn.text(322, 261, f"*T* × {2 * r}", 13, "soft", "start")
    key = drawn.box(168, 330, "keys *M_K*(*m*)", "new", 116, 34)
    value = drawn.box(372, 330, "values *M_V*(*m*)", "new", 128, 34)
    drawn.arrow((252, 278), key, role="new", sides="bt", bend=0.6)
    drawn.arrow((288, 278), value, role="new", sides="bt", bend=0.6)
    drawn.line([(36, places.at("b")[1]), (36, 560), (44, 560)], "image")
    address = drawn.box(168, 404, "softmax over slots", "", 158, 34)
    drawn.text(98, 376, "2 addressing", 13, "new", weight=600)
    drawn.arrow(key, address, f"*T* × {r}")
    drawn.arrow((36, 404), address, role="image", sides="rl")
    read = drawn.node(372, 404, "×")
    drawn.arrow(address, read, "*α*, *p* × *T*")
    drawn.arrow(value, read, f"*T* × {r}")
    drawn.text(392, 404, "3 reading", 13, "new", "start", 600)
    drawn.group(260, 520, 400, 132, "4 response", "new")
    answer = drawn.box(200, 488, "*g^r* = *σ*(*W*[*r_j*; *o_j*] + *b*)", "new", 220, 34)
    last = drawn.node(200, 560, "+", "new")
    drawn.arrow((36, 488), answer, role="image", sides="rl")
    drawn.arrow((36, 560), last, role="image", sides="rl")
    drawn.arrow(read, last, sides="br", via=((372, 560),))
    drawn.arrow((372, 488), answer, sides="lr")
    drawn.text(380, 432, f"*o*, *p* × {r}", 13, "soft", "start")
    drawn.arrow(answer, last, "*p* × 1", "new")
    drawn.text(122, 546, "× (1 − *g^r*)", 13, "new", halo=True)
    drawn.text(292, 546, "× *g^r*", 13, "new", halo=True)
    out = drawn.box(200, 636, "residual, up", "", 116, 34)
    drawn.arrow(last, out, f"*r*^{{new}}, *p* × {r}")
    drawn.arrow(out, (318, 636))
    drawn.text(326, 636, "twice the side", 13, "soft", "start")
    return drawn


def dfgan(config: DFGANConfig | None = None) -> Diagram:
    """DF-GAN: one stage whose every block is fused with the text; one score, whose slope at matching pairs is
    penalised."""
    config = config or DFGANConfig.cub()
    channels, s, e, z = config.generator_channels, config.size, config.text, config.noise
    n = len(channels) - 1
    drawn = Diagram(470, 800, (
        f"DF-GAN. Noise of {z} numbers becomes a map of {channels[0]} by 4 by 4, and {n} equal blocks double "
        f"it to {channels[-1]} by {s} by {s}: upsampling, fusion, convolution, fusion, convolution, plus a "
        "shortcut. A fusion block is twice an affine map of the channels and a leaky ReLU; scales gamma and "
        f"shifts theta come from small networks that read noise and sentence, {z + e} numbers. The "
        "discriminator joins the sentence to its map of 4 by 4 and gives one score of the pair; the second "
        "score, of the picture alone, is left out. A penalty keeps the score's gradients with respect to "
        "picture and sentence small at real pictures with their own sentence. Violet, added to the one-stage "
        "GAN: fusion blocks, the single score, the penalty."))
    x = 104
    noise = noise_box(drawn, 206, 52, below=str(z))
    sentence = drawn.box(418, 52, f"*{E_BAR}*, {e}", "text", 84, 32)
    both = drawn.node(312, 52, "⊕", "new")
    first = drawn.box(x, 52, "linear", "", 84, 30)
    drawn.arrow(noise, first)
    drawn.arrow(noise, both)
    drawn.arrow(sentence, both, role="text")
    drawn.group(x, 262, 180, 300)
    drawn.text(184, 398, f"{n} ×", 14, anchor="end", weight=600)
    parts = [drawn.box(x, y, text, role, 116, 30) for y, text, role in (
        (146, "up, × 2", ""), (202, "DFBlock", "new"), (252, "conv 3 × 3", ""), (302, "DFBlock", "new"),
        (352, "conv 3 × 3", ""))]
    drawn.arrow(first, parts[0], f"{channels[0]} × 4^2")
    for before, after in zip(parts, parts[1:]):
        drawn.arrow(before, after)
    total = drawn.node(x, 392, "+")
    drawn.arrow(parts[-1], total)
    drawn.arrow((x, 174), total, sides="ll", via=((28, 174), (28, 392)))
    rgb = drawn.box(x, 454, "conv 3 × 3, tanh", "", 140, 30)
    drawn.arrow(total, rgb, f"{channels[-1]} × {s}^2")
    fake = drawn.image(x, 518, stand_in(real_picture()), 64)
    drawn.arrow(rgb, fake)
    drawn.text(x + 42, 518, f"*{X_HAT}*, 3 × {s}^2", 13, "image", "start")
    # the fusion block in detail
    drawn.group(346, 268, 232, 322, "", "new")
    drawn.text(358, 414, "each channel *i*: *γ_i* *x_i* + *θ_i*", 13, "new", weight=600)
    drawn.line([parts[1].at("r", 0.1), (230, 118)], "new", dashed=True)
    drawn.line([parts[1].at("r", 0.9), (230, 418)], "new", dashed=True)
    chain = [drawn.node(286, 156, "⊙", "new"), drawn.node(286, 194, "+", "new"),
             drawn.box(286, 234, "LReLU", "", 72, 26),
             drawn.node(286, 278, "⊙", "new"), drawn.node(286, 316, "+", "new"),
             drawn.box(286, 356, "LReLU", "", 72, 26)]
    drawn.arrow((286, 122), chain[0], "*x*", side=-1)
    for before, after in zip(chain, chain[1:]):
        drawn.arrow(before, after)
    drawn.arrow(chain[-1], (286, 396))
    drawn.line([(312, 64), (312, 96), (450, 96), (450, 316)], "text")
    drawn.text(382, 84, f"[*z*; *{E_BAR}*], {z + e}", 13, "text")
    for node, name in zip((chain[0], chain[1], chain[3], chain[4]), ("γ_1", "θ_1", "γ_2", "θ_2")):
        net = drawn.box(382, node.y, f"MLP *{name}*", "new", 88, 28)
        drawn.arrow((450, node.y), net, role="text", sides="lr")
        drawn.arrow(net, node, role="new")
    # the discriminator
    drawn.text(20, 570, "discriminator: one way out", 15, anchor="start", weight=600)
    y = 640
    real = drawn.image(52, y, real_picture(), 64)
    drawn.text(52, y - 42, f"*x*, 3 × {s}^2", 13, "image")
    down = drawn.box(148, y, f"{n} × down", "", 90, 34)
    join = drawn.node(244, y, "⊕")
    score = drawn.box(322, y, "conv, conv", "", 92, 34)
    out = drawn.box(424, y, f"*a*(*x*, *{E_BAR}*)", "new", 76, 34)
    drawn.arrow(real, down)
    drawn.arrow(down, join)
    drawn.text(206, y + 29, f"{config.discriminator_channels[-1]} × 4^2", 13, "soft")
    drawn.arrow(join, score)
    drawn.arrow(score, out)
    alone = drawn.box(330, 596, "*a*(*x*) alone", "frozen", 110, 28)
    drawn.arrow(down, alone, role="frozen", sides="tl", dashed=True)
    drawn.line([(282, 609), (378, 583)], "loss")
    drawn.line([(282, 583), (378, 609)], "loss")
    words = drawn.box(244, 712, f"*{E_BAR}*, {e}", "text", 84, 32)
    drawn.arrow(words, join, "at 4 × 4 places", "text")
    penalty = drawn.box(392, 752, "gradient penalty\n*k* ‖∇‖^p, *k* = 2, *p* = 6", "new", 148, 50)
    drawn.arrow((424, 657), (424, 727), role="new", dashed=True)
    drawn.arrow(penalty, words, role="new", sides="lb", dashed=True)
    drawn.arrow(penalty, real, role="new", dashed=True, sides="lb", via=((52, 752),))
    drawn.text(60, 700, "∇_x*a*", 14, "new", "start", 600)
    drawn.text(252, 740, "∇_e*a*", 14, "new", "start", 600)
    drawn.text(150, 770, "at a real picture and its own text only", 13, "new")
    return drawn
