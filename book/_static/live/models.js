/* Miniatures of the book, as their Python modules have them: chapter 4's dual encoder, chapter 1's captioner,
   chapter 2's AttnGAN, DF-GAN and DALL-E, chapter 3's word vectors, chapter 5's ViLBERT and Flamingo. A model is made
   of its weights W (by their names in the file) and its description `about` (the .json beside them). What it can do are
   its generators: each yields what there is to show so far, and the last thing that it yields is the answer. Pictures
   are numbers in [0, 1], (3, 64, 64). */
function mmlearnModels(nn) {
  "use strict";
  const {tensor, map, add, reshape, rows, cat, transpose, matmul, relu, tanh, quickGelu, gelu, glu, softmax, logSoftmax} = nn;
  const {normalise, conv, upsample, meanPool, cells, linear, batchNorm, layerNorm, embedding, attention, lstm} = nn;
  const picture = (pixels, mean = [.5, .5, .5], std = [.5, .5, .5]) => {       // (3, s, s), standardised
    const place = pixels.length / 3, side = Math.sqrt(place);
    const standard = (v, i) => (v - mean[i / place | 0]) / std[i / place | 0];
    return tensor([3, side, side], Float32Array.from(pixels, standard));};

  // ----------------------------------------------- mmlearn/text_for_vision/clip.py, mmlearn/nn/modified_resnet.py
  const MEAN = [0.48145466, 0.4578275, 0.40821073], STD = [0.26862954, 0.26130258, 0.27577711];
  const TEMPLATES = ["A picture of {a}.", "There is {a}.", "{a} can be seen.", "The picture shows {a}.",
    "On the left there is {a}.", "{a} in a field.", "In a street there is {a}."];
  const withArticle = name => (/^(?:unin|heir|honest|honou?r|hour|herb)/i.test(name) || /^[aeiou]/i.test(name) &&
    !/^(?:eu|ewe|uni|use|usu|ute|ufo|ubi|ura|one|once|ukulele|unix)/i.test(name) ? "an " : "a ") + name;

  const resNet = (W, pixels) => {                      // the last map of the picture tower, before it is pooled
    const convNorm = (x, name, stride) => batchNorm(conv(x, W[name + ".0.weight"], stride), W, name + ".1");
    const bottleneck = (x, name, stride) => {
      const blur = y => stride > 1 ? meanPool(y, stride) : y;
      const inner = relu(convNorm(relu(convNorm(x, name + ".first")), name + ".second"));
      const beside = W[name + ".shortcut.0.weight"] ? convNorm(blur(x), name + ".shortcut") : x;
      return relu(add(convNorm(blur(inner), name + ".third"), beside));};
    let x = picture(pixels, MEAN, STD);
    [2, 1, 1].forEach((stride, i) => {x = relu(convNorm(x, "image.stem." + i, stride));});
    x = meanPool(x, 2);
    for (let i = 0; i < 4; i++) x = bottleneck(x, `image.stages.${i}.0`, i ? 2 : 1);
    return x;};

  const dualEncoder = (W, about) => {
    const words = nn.tokeniser(about.words), {heads, layers} = about.config.text;
    const encodeImage = pixels => {
      let x = resNet(W, pixels);
      const mean = reshape(meanPool(x, x.shape[1]), 1, x.shape[0]);
      x = add(cat(mean, cells(x)), W["image.pool.positions"]);                      // eq:attention-pool-tokens
      return attention(rows(x, 0, 1), x, W, "image.pool.attention", about.config.image.heads).out;};
    const encodeText = text => {
      const ids = [2, ...words.encode(text).slice(0, about.config.text.context - 2), 3], t = ids.length;
      let x = add(embedding(W["text.words.weight"], ids), rows(W["text.positions"], 0, t));
      for (let i = 0; i < layers; i++) {                                            // eq:pre-norm, twice
        const name = "text.layers." + i, z = layerNorm(x, W, name + ".attention_norm");
        x = add(x, attention(z, z, W, name + ".attention", heads, true).out);
        const read = layerNorm(x, W, name + ".feed_forward_norm");
        x = add(x, linear(quickGelu(linear(read, W, name + ".feed_forward.inner")), W, name + ".feed_forward.outer"));}
      const last = layerNorm(rows(x, t - 1, t), W, "text.norm_after");              // eq:eot-pooling
      return matmul(last, transpose(W["text.projection"]));};
    const classVector = label => {                                                  // eq:zero-shot-weights
      const sentences = TEMPLATES.map(template => template.replace("{a}", withArticle(label)));
      const mean = sentences.map(text => normalise(encodeText(text))).reduce(add);
      return normalise(mean);};
    const known = new Map();                        // vectors of labels that were asked for before
    return {
      *imageVector(pixels) {yield encodeImage(pixels).data;},
      *textVector(text) {yield encodeText(text).data;},
      /* The words of a label, and which of them the model has never read. */
      *read(label) {yield nn.words(label).map(word => ({word, known: words.has(word)}));},
      /* eq:zero-shot-posterior: how probable each label is. */
      *classify(pixels, labels) {
        for (const label of labels) if (!known.has(label)) known.set(label, classVector(label));
        const scores = matmul(normalise(encodeImage(pixels)), cat(...labels.map(label => known.get(label))));
        yield softmax(map(scores, v => v * Math.exp(W.logit_scale.data[0]))).data;}};};

  // ----------------------------------------------------------------- mmlearn/image2text/captioner.py, generate.py
  const captioner = (W, about) => {
    const words = nn.tokeniser(about.words), {heads, layers} = about.config, longest = 20, BOS = 2, EOS = 3;
    const convNorm = (x, c, n, stride) => batchNorm(conv(x, W[c + ".weight"], stride), W, n);
    const block = (x, name, stride) => {                                            // torchvision's BasicBlock
      const inner = relu(convNorm(x, name + ".conv1", name + ".bn1", stride)), short = name + ".downsample";
      const beside = W[short + ".0.weight"] ? convNorm(x, short + ".0", short + ".1", stride) : x;
      return relu(add(convNorm(inner, name + ".conv2", name + ".bn2"), beside));};
    const feedForward = (x, name) => linear(relu(linear(x, W, name + ".inner")), W, name + ".outer");
    const addNorm = (x, read, name) => layerNorm(add(x, read), W, name);            // eq:add-norm
    const gridSinusoids = (side, width) => {           // the first half says the row, the second the column
      const line = nn.sinusoids(side, width / 2), out = tensor([side * side, width]);
      for (let i = 0; i < side * side; i++) {
        out.data.set(rows(line, i / side | 0, (i / side | 0) + 1).data, i * width);
        out.data.set(rows(line, i % side, i % side + 1).data, i * width + width / 2);}
      return out;};
    const encode = pixels => {
      const trunk = "trunk.trunk.blocks.";
      let x = relu(convNorm(picture(pixels), trunk + 0, trunk + 1, 2));
      [1, 2, 2, 1].forEach((stride, i) => {x = block(x, trunk + (i + 3), stride);});
      const side = x.shape[1];
      x = layerNorm(relu(linear(cells(x), W, "project.linear")), W, "project.norm");          // eq:grid-projection
      x = add(x, gridSinusoids(side, x.shape[1]));
      for (let i = 0; i < layers; i++) {
        const name = "encoder." + i;
        x = addNorm(x, attention(x, x, W, name + ".attention", heads).out, name + ".attention_norm");
        x = addNorm(x, feedForward(x, name + ".feed_forward"), name + ".feed_forward_norm");}
      return x;};
    /* Log-probabilities of the word after `ids`, and where the last layer looked for it: the mean over heads of
       the last place's weights, one for each cell of the grid. */
    const next = (ids, source) => {
      const t = ids.length, positions = rows(W["embed.positions.table"], 1, 1 + t);
      let x = add(embedding(W["embed.words.weight"], ids), positions), seen;
      for (let i = 0; i < layers; i++) {
        const name = "decoder." + i;
        x = addNorm(x, attention(x, x, W, name + ".self_attention", heads, true).out, name + ".self_norm");
        const cross = attention(x, source, W, name + ".cross_attention", heads);
        seen = cross.weights;
        x = addNorm(x, cross.out, name + ".cross_norm");
        x = addNorm(x, feedForward(x, name + ".feed_forward"), name + ".feed_forward_norm");}
      const p = source.shape[0], where = new Float32Array(p);
      for (let h = 0; h < heads; h++) for (let j = 0; j < p; j++)
        where[j] += seen.data[(h * t + t - 1) * p + j] / heads;
      return {logs: logSoftmax(matmul(rows(x, t - 1, t), W["output.weight"]).data), where};};
    const shown = ({ids, where, logs}) => {            // what the reader sees of a text: no <eos>
      const text = ids.filter(i => i > EOS);
      return {words: text.map(i => words.words[i]), ids, where: where.slice(0, text.length), logs};};
    return {
      *logProbabilities(pixels, ids) {yield Float32Array.from(next([BOS, ...ids], encode(pixels)).logs);},
      /* eq:beam with k texts (k = 1: greedy): after each step the likeliest text so far. */
      *caption(pixels, k) {
        const source = encode(pixels);
        let texts = [{ids: [], logs: [], where: [], total: 0, ended: false}];
        while (texts[0].ids.length < longest && !texts.every(text => text.ended)) {
          const grown = [];
          for (const text of texts) {
            if (text.ended) {grown.push({...text, ids: [...text.ids, 1]}); continue;}       // <pad>, free of charge
            const {logs, where} = next([BOS, ...text.ids], source);
            const best = logs.map((_, i) => i).sort((a, b) => logs[b] - logs[a]).slice(0, k);
            for (const id of best) grown.push({ids: [...text.ids, id], logs: [...text.logs, logs[id]],
              where: [...text.where, where], total: text.total + logs[id], ended: id === EOS});}
          texts = grown.sort((a, b) => b.total - a.total).slice(0, k);
          yield shown(texts[0]);}}};};

  // ---------------------------------------------------------------------------------- mmlearn/text2image/damsm.py
  const column = x => reshape(x, x.data.length, 1);
  const mix = (x, y, share) => nn.zip(x, y, (a, b) => (1 - share) * a + share * b);
  const textEncoder = (W, about) => {
    const words = nn.tokeniser(about.words), stretch = about.config.text.stretch ?? 1;
    return {
      readText: text => {                                          // words (t, e), sentence (1, e)
        const x = embedding(W["encoder.words.weight"], words.encode(text)), t = x.shape[0];
        const [on, back] = [false, true].map(way => lstm(x, W, "encoder.rnn", way));
        const last = cat(column(rows(on, t - 1, t)), column(rows(back, 0, 1)));
        return {words: transpose(cat(transpose(on), transpose(back))),
          sentence: tensor([1, 2 * on.shape[1]], last.data.map(v => stretch * v))};},
      *read(text) {yield nn.words(text).map(word => ({word, known: words.has(word)}));}};};

  // ----------------------------------------------------------------------- mmlearn/text2image/attngan.py, blocks.py
  const attnGAN = (W, about) => {
    const {condition, noise} = about.config.image, {readText, read: readAloud} = textEncoder(W, about);
    const convBlock = (x, name) => glu(batchNorm(conv(x, W[name + ".conv.weight"]), W, name + ".norm"));
    const upBlock = (x, name) => convBlock(upsample(x), name);
    const residual = (x, name) => {
      const inner = conv(convBlock(x, name + ".inner"), W[name + ".conv.weight"]);
      return add(x, batchNorm(inner, W, name + ".norm"));};
    /* eq:attngan-weights and eq:attngan-read: what the places (p, g) read of the words. */
    const readWords = (h, text, name) => {
      const e = linear(text.words, W, name + ".project"), beta = softmax(matmul(h, e));
      return {read: matmul(beta, transpose(e)), beta};};
    /* A picture of a text, or of two, a `share` of the second: sentences are mixed before the condition is drawn,
       and each place of the map reads both texts and mixes what it has read. */
    const draw = (texts, share, z) => {
      const read = texts.map(readText), both = read.length > 1 && share > 0;
      const sentence = both ? mix(read[0].sentence, read[1].sentence, share) : read[0].sentence;
      const numbers = glu(column(linear(sentence, W, "generator.condition.fc"))).data;
      const drawn = z.slice(0, condition)                          // eq:ca-sample
        .map((v, i) => numbers[i] + Math.exp(.5 * numbers[condition + i]) * v);
      const code = tensor([1, condition + noise], Float32Array.of(...drawn, ...z.slice(0, noise)));
      let x = linear(code, W, "generator.first.fc");
      x = glu(batchNorm(column(x), W, "generator.first.norm"));
      x = reshape(x, x.data.length / 16, 4, 4);
      for (let i = 0; W[`generator.first.up.${i}.conv.weight`]; i++) x = upBlock(x, "generator.first.up." + i);
      let beta;
      for (let i = 0; W[`generator.further.${i}.project.weight`]; i++) {
        const name = "generator.further." + i, [g, side] = x.shape, h = cells(x);
        const seen = read.map(text => readWords(h, text, name));
        const c = both ? mix(seen[0].read, seen[1].read, share) : seen[0].read;
        beta = seen[both && share > .5 ? 1 : 0].beta;
        x = reshape(cat(transpose(h), transpose(c)), 2 * g, side, side);
        for (let j = 0; W[`${name}.residual.${j}.conv.weight`]; j++) x = residual(x, `${name}.residual.${j}`);
        x = upBlock(x, name + ".up");}
      const head = "generator.heads." + (about.config.image.branches - 1) + ".0.weight";
      return {pixels: tanh(conv(x, W[head])).data, attention: beta};};
    return {
      read: readAloud,
      /* Pixels (3, 64, 64) in [-1, 1], and what the places (p) of the last branch read of the words (t). */
      *draw(texts, share, seed) {yield draw(texts, share, nn.randn(Math.max(condition, noise), seed));}};};

  // ---------------------------------------------------------------------------------- mmlearn/text2image/dfgan.py
  const dfGAN = (W, about) => {
    const {noise} = about.config.image, {readText, read} = textEncoder(W, about), leaky = v => v > 0 ? v : .2 * v;
    const convolve = (x, name) => conv(x, W[name + ".weight"], 1, W[name + ".bias"]);
    const fuse = (x, seen, name) => {                              // eq:dfgan-fusion, of eq:dfgan-affine
      const size = x.data.length / x.shape[0];
      for (let i = 0; i < 2; i++) {
        const [gamma, theta] = ["gamma", "theta"].map(part => {
          const net = `${name}.affines.${i}.${part}.`;
          return linear(relu(linear(seen, W, net + "0")), W, net + "2").data;});
        x = tensor(x.shape, x.data.map((v, k) => leaky(gamma[k / size | 0] * v + theta[k / size | 0])));}
      return x;};
    const block = (x, seen, name) => {
      const inner = convolve(fuse(x, seen, name + ".fuse1"), name + ".conv1");
      const beside = W[name + ".shortcut.weight"] ? convolve(x, name + ".shortcut") : x;
      return add(beside, convolve(fuse(inner, seen, name + ".fuse2"), name + ".conv2"));};
    /* A picture of a text, or of two, of whose sentences the second has a `share`. */
    const draw = (texts, share, z) => {
      const said = texts.map(text => readText(text).sentence);
      const sentence = said.length > 1 && share > 0 ? mix(said[0], said[1], share) : said[0];
      const code = tensor([1, noise], z), seen = transpose(cat(column(code), column(sentence)));
      let x = linear(code, W, "generator.start");
      x = reshape(x, x.data.length / 16, 4, 4);
      for (let i = 0; W[`generator.blocks.${i}.conv1.weight`]; i++) x = block(upsample(x), seen, "generator.blocks." + i);
      return {pixels: tanh(convolve(map(x, leaky), "generator.to_rgb")).data};};
    return {
      read,
      *draw(texts, share, seed) {yield draw(texts, share, nn.truncated(noise, seed).map(v => .88 * v));}};};

  // ------------------- mmlearn/text2image/dalle.py, sparse_attention.py, vqgan.py, autoencoder.py, mmlearn/generate.py
  /* The weights are those of two files: DALL-E ("dalle.") and the half of VQGAN that draws ("stage."). */
  const dallE = (W, about) => {
    const words = nn.tokeniser(about.words), {tokens: config, stage} = about.config, {side, layers, heads} = config;
    const longest = config.text_len, text = 1 + longest, count = side * side, half = config.kernel >> 1;
    /* Which of two places of the picture, o apart, the later may attend to: eq:dalle-row, -column, -convolution. */
    const reaches = {row: o => o <= side, column: o => o % side === 0,
      convolution: o => {
        for (let r = 0; r <= half; r++) if (Math.abs(o - r * side) <= half) return true;
        return false;}};
    const kind = i => i === layers ? "convolution" : i % 4 === 2 ? "column" : "row";          // eq:dalle-layers, from 1

    /* New places x (t, d) through all layers, `past` holding keys and values (s, d) of those before: the last state
       (1, d), and what its place read of the places (s), the mean over layers and heads. The text is read at once; after
       it one code at a time, which meets the keys that it attends to and no others. */
    const through = (x, past) => {
      const t = x.shape[0], where = new Float32Array(text + count);
      for (let i = 0; i < layers; i++) {
        const name = "dalle.blocks." + i, z = layerNorm(x, W, name + ".attention_norm");
        const [Q, ...both] = [0, 1, 2].map(part => nn.project(z, W, name + ".attention", part));
        const known = past[i] = both.map((X, k) => past[i] ? cat(past[i][k], transpose(X)) : transpose(X));
        const s = known[0].shape[0], near = [...Array(s).keys()];
        const met = s > text ? near.filter(j => j < text || reaches[kind(i + 1)](s - 1 - j)) : near;  // eq:dalle-mask
        const [K, V] = known.map(X => transpose(s > text ? embedding(X, met) : X));
        const {read, weights} = nn.attend(Q, K, V, heads, s > text ? null : nn.past), n = met.length;
        for (let h = 0; h < heads; h++) met.forEach((j, k) => {
          where[j] += weights.data[(h * t + t - 1) * n + k] / (heads * layers);});
        x = add(x, linear(read, W, name + ".attention.out"));
        const inner = linear(layerNorm(x, W, name + ".feed_forward_norm"), W, name + ".feed_forward.inner");
        x = add(x, linear(gelu(inner), W, name + ".feed_forward.outer"));}
      return {states: layerNorm(x, W, "dalle.norm"), where};};
    const readText = (sentence, past) => {                                                     // eq:dalle-text
      const ids = words.encode(sentence).slice(0, longest), padding = rows(W["dalle.padding"], ids.length, longest);
      const own = ids.length ? cat(embedding(W["dalle.words.weight"], ids), padding) : padding;
      return through(cat(reshape(W["dalle.start"], 1, config.width), add(own, W["dalle.positions"])), past);};
    const readCode = (code, place, past) => {                                                  // eq:dalle-image
      const row = Math.floor(place / side), of = (name, i) => rows(W["dalle." + name], i, i + 1);
      return through(add(add(of("codes.weight", code), of("rows", row)), of("columns", place % side)), past);};

    const norm = (x, name) => nn.groupNorm(x, W, name, stage.autoencoder.groups, 1e-6);
    const convolve = (x, name) => conv(x, W[name + ".weight"], 1, W[name + ".bias"]);
    const block = (x, name) => {                                                               // eq:autoencoder-residual
      const h = convolve(nn.silu(norm(x, name + ".norm1")), name + ".conv1");
      const beside = W[name + ".shortcut.weight"] ? convolve(x, name + ".shortcut") : x;
      return add(beside, convolve(nn.silu(norm(h, name + ".norm2")), name + ".conv2"));};
    const readGrid = (x, name) => {                                                            // one head reads all places
      const c = x.shape[0], qkv = transpose(linear(cells(norm(x, name + ".norm")), W, name + ".qkv"));
      const {read} = nn.attend(rows(qkv, 0, c), rows(qkv, c, 2 * c), rows(qkv, 2 * c, 3 * c), 1);
      return add(x, reshape(transpose(linear(read, W, name + ".out")), ...x.shape));};
    const decode = codes => {                                      // pixels (3, 64, 64), cut off at -1 and 1
      const grid = reshape(transpose(embedding(W["stage.codebook.weight"], codes)), stage.embed, side, side);
      const decoder = "stage.decoder.", middle = decoder + "middle.";
      let x = convolve(convolve(grid, "stage.from_codes"), decoder + "enter");
      x = block(readGrid(block(x, middle + "first"), middle + "attention"), middle + "second");
      for (let i = 0; W[`${decoder}levels.${i}.blocks.0.conv1.weight`]; i++) {
        const level = decoder + "levels." + i;
        for (let j = 0; W[`${level}.blocks.${j}.conv1.weight`]; j++) x = block(x, `${level}.blocks.${j}`);
        if (W[level + ".resample.conv.weight"]) x = convolve(upsample(x), level + ".resample.conv");}
      return map(convolve(nn.silu(norm(x, decoder + "norm")), decoder + "leave"), v => Math.min(1, Math.max(-1, v)));};
    const codeLogits = found => matmul(rows(found.states, found.states.shape[0] - 1, found.states.shape[0]),
      W["dalle.to_codes.weight"]);
    /* Codes of a sentence, of which the first may be given: each code that is drawn, then all, how probable those that
       were drawn are, and what was read for each of the start, the words and the codes before. */
    const draw = function* (sentence, seed, kept) {
      const past = [], bits = nn.generator(seed), codes = [...kept], odds = [], wheres = [];
      let found = readText(sentence, past);
      kept.forEach((code, place) => {if (place < count - 1) found = readCode(code, place, past);});
      while (codes.length < count) {
        const shares = softmax(codeLogits(found)).data, code = nn.draw(shares, bits);
        odds.push(shares[code]); wheres.push(found.where);
        yield {code, place: codes.push(code) - 1};
        if (codes.length < count) found = readCode(code, codes.length - 1, past);}
      yield {codes, odds, wheres};};
    return {
      *read(sentence) {yield nn.words(sentence).map(word => ({word, known: words.has(word)}));},
      /* Scores of each word of the text (t, v) and of each code (n, k), before it is seen. */
      *logits(sentence, codes) {
        const past = [];
        let found = readText(sentence, past);
        const text = matmul(rows(found.states, 0, longest), W["dalle.to_words.weight"]), image = [];
        codes.forEach((code, place) => {
          image.push(codeLogits(found));
          if (place < count - 1) found = readCode(code, place, past);});
        yield {text: text.data, image: cat(...image).data};},
      *decode(codes) {yield decode(codes).data;},
      *codes(sentence, seed, kept = []) {yield* draw(sentence, seed, kept);},
      /* A picture of a sentence: each code when it is drawn, after every second row what the decoder makes of the codes
         so far, with the last row repeated below, and at last all of it. */
      *draw(sentence, seed, kept = []) {
        const codes = [...kept];
        let all;
        for (const step of draw(sentence, seed, kept)) {
          yield all = step;
          if (step.codes || codes.push(step.code) % (2 * side) || codes.length === count) continue;
          const below = Array.from({length: count - codes.length}, (_, i) => codes[codes.length - side + i % side]);
          yield {pixels: decode([...codes, ...below]).data, rows: codes.length / side};}
        yield {...all, pixels: decode(all.codes).data};}};};

  // --------------------- mmlearn/images_for_language/word_space.py, sequential_fusion.py, data/word_vectors.py
  /* The first words of the list have pictures, too; the others have zeros in their place. */
  const wordSpace = (W, about) => {
    const {words} = about, index = new Map(words.map((word, i) => [word, i]));
    const text = normalise(W.text), image = normalise(W.image), n = image.shape[0];
    const missing = tensor([words.length - n, image.shape[1]]);
    const columns = [transpose(text), transpose(cat(image, missing))];
    let share = null, vectors;
    const weighed = alpha => {                                     // eq:fusion-features, rows at length 1
      if (alpha !== share) {
        const [t, v] = columns;
        vectors = normalise(transpose(cat(map(t, x => alpha * x), map(v, x => (1 - alpha) * x))));
        share = alpha;}
      return vectors;};
    const vector = (word, rowsOf) => rows(rowsOf, index.get(word), index.get(word) + 1);
    const nearest = (target, rowsOf, k, without) => {              // eq:words-cosine with all words
      const cosines = matmul(normalise(target), rowsOf).data;
      const order = [...cosines.keys()].filter(i => !without.includes(words[i]));
      const best = order.sort((a, b) => cosines[b] - cosines[a]).slice(0, k);
      return {words: best.map(i => words[i]), cosines: best.map(i => cosines[i]), all: cosines};};
    return {
      *read(text) {yield nn.words(text).map(word => ({word, known: index.has(word)}));},
      /* The k words nearest to a word where its text has the weight alpha, and the cosines of all. */
      *neighbours(word, alpha, k) {
        const V = weighed(alpha);
        yield nearest(vector(word, V), V, k, [word]);},
      /* eq:words-cosadd: a is to b as c is to the k words that follow. */
      *analogy(a, b, c, alpha, k) {
        const V = weighed(alpha), [x, y, z] = [a, b, c].map(word => vector(word, V));
        yield nearest(add(nn.zip(y, x, (to, from) => to - from), z), V, k, [a, b, c]);}};};

  // --------------------------------------------------------------------- mmlearn/both_modalities/vilbert.py
  /* `about.regions` is a small file of weights with what chapter 1's detector saw in the scenes to pick. */
  const viLBERT = (W, about) => {
    const words = nn.tokeniser(about.words), {config} = about, BOS = 2, EOS = 3, MASK = about.words.length;
    const seen = nn.readSafetensors(Uint8Array.from(atob(about.regions), letter => letter.charCodeAt(0)).buffer);
    const norm = (x, name) => layerNorm(x, W, name, config.text.eps);
    const feedForward = (x, name) =>
      linear(gelu(linear(x, W, name + ".feed_forward.inner")), W, name + ".feed_forward.outer");
    const addBoth = (x, read, name) => {                                            // eq:add-norm, twice
      x = norm(add(x, read), name + ".attention_norm");
      return norm(add(x, feedForward(x, name)), name + ".feed_forward_norm");};
    const layer = (x, name, heads) => addBoth(x, attention(x, x, W, name + ".attention", heads).out, name);
    const picture = scene => {                                                      // eq:vilbert-image, -embed
      const f = seen[scene + ".features"], s = seen[scene + ".boxes"], [n, width] = f.shape;
      const mean = tensor([1, width]);
      f.data.forEach((v, i) => {mean.data[i % width] += v / n;});
      const features = linear(cat(mean, f), W, "vilbert.regions.features");
      const places = linear(cat(tensor([1, 5], Float32Array.of(0, 0, 1, 1, 1)), s), W, "vilbert.regions.places");
      return norm(add(features, places), "vilbert.regions.norm");};
    const run = (scene, ids) => {
      const embed = "vilbert.text.embed.", kinds = cat(...ids.map(() => rows(W[embed + "segments.weight"], 0, 1)));
      let x = picture(scene), y = add(embedding(W[embed + "words.weight"], ids), rows(W[embed + "positions.weight"], 0, ids.length));
      y = norm(add(y, kinds), embed + "norm");
      let text = 0, vision = 0, weights;
      const until = (words, regions) => {
        for (; text < words; text++) y = layer(y, "vilbert.text.layers." + text, config.text.heads);
        for (; vision < regions; vision++) x = layer(x, "vilbert.vision_layers." + vision, config.heads);};
      config.co_text.forEach((words, k) => {                                        // eq:vilbert-co-attention
        until(words, config.co_vision[k]);
        const [X, Y] = [".vision", ".text"].map(stream => `vilbert.co_layers.${k}${stream}`);
        const looks = attention(x, y, W, X + ".attention", config.co_heads, false, Y + ".attention");
        const reads = attention(y, x, W, Y + ".attention", config.co_heads, false, X + ".attention");
        weights = reads.weights;
        [x, y] = [addBoth(x, looks.out, X), addBoth(y, reads.out, Y)];});
      until(config.text.layers, config.layers);
      return {x, y, weights};};
    return {
      *read(text) {
        const parts = text.split(/_+/).map(nn.words).reduce((all, part) => [...all, "___", ...part]);
        yield parts.map(word => ({word, known: word === "___" || words.has(word)}));},
      /* A text with gaps (___) about a scene: how probable each word is in the first gap, what its place read of
         the whole picture and of each region (the mean over heads in the last co-attention), and how probable it
         is that text and picture belong together. */
      *fill(scene, text) {
        const ids = [BOS, ...text.split(/_+/).map(words.encode).reduce((all, part) => [...all, MASK, ...part])];
        ids.length = Math.min(ids.length, config.text.context - 1);
        ids.push(EOS);
        const {x, y, weights} = run(scene, ids), gap = ids.indexOf(MASK), t = ids.length, n = x.shape[0];
        const pooled = (states, name) => relu(linear(rows(states, 0, 1), W, `vilbert.${name}_pooler`));
        const joint = nn.zip(pooled(x, "vision"), pooled(y, "text"), (a, b) => a * b);          // eq:vilbert-joint
        const belongs = softmax(linear(joint, W, "pairs")).data[0], where = new Float32Array(n);
        if (gap < 0) {yield {belongs, odds: null, where}; return;}
        for (let h = 0; h < config.co_heads; h++) for (let j = 0; j < n; j++)
          where[j] += weights.data[(h * t + gap) * n + j] / config.co_heads;
        const state = norm(gelu(linear(rows(y, gap, gap + 1), W, "words.dense")), "words.norm");
        const scores = add(matmul(state, W["vilbert.text.embed.words.weight"]), reshape(W["words.bias"], 1, MASK + 1));
        yield {belongs, odds: softmax(scores).data, where};}};};

  // ------------------- mmlearn/both_modalities/flamingo.py, interleaved.py, few_shot.py, mmlearn/nn/causal_lm.py
  /* The weights are those of three files: the picture tower ("image."), the language model ("language."), and what
     Flamingo trained. Pictures are put into slots first, and a page names them by their slots. */
  const flamingo = (W, about) => {
    const words = nn.tokeniser(about.words, nn.simpleWords), {config, language} = about, BOS = 2, EOS = 3, IMAGE = 4;
    const visual = [], scaled = (x, gate) => map(x, v => v * Math.tanh(W[gate].data[0]));        // eq:flamingo-gate
    const squaredRelu = x => map(x, v => v > 0 ? v * v : 0);
    const dense = (x, name) =>
      linear(squaredRelu(linear(layerNorm(x, W, name + ".norm"), W, name + ".inner")), W, name + ".outer");
    const see = pixels => {                                        // cells -> latents (r, d), eq:flamingo-resample
      const seen = linear(cells(resNet(W, pixels)), W, "resampler.project");
      let x = W["resampler.latents"];
      for (let i = 0; i < config.resampler_layers; i++) {
        const name = "resampler.layers." + i, z = layerNorm(x, W, name + ".attention.norm_latents");
        const source = cat(layerNorm(seen, W, name + ".attention.norm_features"), z);
        x = add(x, attention(z, source, W, name + ".attention", config.resampler_heads).out);
        x = add(x, dense(x, name + ".dense"));}
      return layerNorm(x, W, "resampler.norm");};
    /* Log-probabilities of the word after each of the last `count` ids, and what the last id's place read of all
       places: the mean over heads in the last layer of the language model. */
    const read = (ids, slots, count = 1) => {
      let shown = 0, weights, x = embedding(W["language.words.weight"], ids);
      const phi = ids.map(id => shown += id === IMAGE), t = ids.length, d = config.width;           // eq:flamingo-phi
      ids.forEach((id, i) => {if (id === EOS) for (let j = 0; j < d; j++) x.data[i * d + j] += W.end.data[j];});
      const V = cat(...slots.map(slot => visual[slot]));
      for (let i = 0; i < config.layers; i++) {
        const block = "blocks." + i, layer = "language.layers." + i;
        const Q = transpose(linear(layerNorm(x, W, block + ".attention.norm"), W, block + ".attention.queries"));
        const both = transpose(linear(V, W, block + ".attention.sources")), n = both.shape[0] / 2;
        const own = (i, j) => phi[i] === 1 + Math.floor(j / config.latents);                       // eq:flamingo-mask
        const looked = nn.attend(Q, rows(both, 0, n), rows(both, n, 2 * n), config.heads, own);
        x = add(x, scaled(linear(looked.read, W, block + ".attention.out"), block + ".gate_read"));
        x = add(x, scaled(dense(x, block + ".dense"), block + ".gate_dense"));
        const z = layerNorm(x, W, layer + ".attention_norm");
        const [q, k, v] = [0, 1, 2].map(part => nn.project(z, W, layer + ".attention", part));
        const past = nn.attend(nn.rotate(q, language.heads), nn.rotate(k, language.heads), v, language.heads, nn.past);
        x = add(x, linear(past.read, W, layer + ".attention.out"));
        const inner = linear(layerNorm(x, W, layer + ".feed_forward_norm"), W, layer + ".feed_forward.inner");
        x = add(x, linear(gelu(inner), W, layer + ".feed_forward.outer"));
        weights = past.weights;}
      const last = layerNorm(rows(x, t - count, t), W, "language.norm"), where = new Float32Array(t);
      for (let h = 0; h < language.heads; h++) for (let j = 0; j < t; j++)
        where[j] += weights.data[(h * t + t - 1) * t + j] / language.heads;
      const logits = matmul(last, W["language.words.weight"]), v = logits.shape[1];
      return {logs: Array.from({length: count}, (_, i) => logSoftmax(logits.data.subarray(i * v, (i + 1) * v))), where};};
    const chunk = (request, answer) => [IMAGE, ...words.encode(request), ...answer ? [...words.encode(answer), EOS] : []];
    return {
      /* What the resampler makes of a picture, which stands in a slot from now on. */
      *look(slot, pixels) {yield (visual[slot] = see(pixels)).data;},
      *read(text) {yield nn.simpleWords(text).map(word => ({word, known: words.has(word)}));},
      /* Shots [slot, word] name pictures; which of these words fits the picture in the slot `asked`? Of each its
         log-probability with the end of the chunk (eq:few-shot-answer) and its share; the page, and how much its
         open end read of each token. */
      *bind(shots, asked) {
        const page = [BOS, ...shots.map(([, word]) => chunk("Output:", word)).flat(), ...chunk("Output:")];
        const slots = [...shots.map(([slot]) => slot), asked], names = [...new Set(shots.map(([, word]) => word))];
        const {where} = read(page, slots);
        const scores = names.map(name => {
          const [id] = words.encode(name), {logs: [first, then]} = read([...page, id], slots, 2);
          return first[id] + then[EOS];});
        const odds = Array.from(softmax(tensor([1, names.length], Float32Array.from(scores))).data);
        yield {names, scores: Float32Array.from(scores), odds, page: page.map(id => words.words[id]), where};},
      /* What is written after a question about the picture in a slot, the likeliest word each time. */
      *answer(slot, question, most = 8) {
        const ids = [BOS, ...chunk(`Question: ${question} Answer:`)], said = [];
        for (let word; said.length < most; ids.push(word), said.push(words.words[word])) {
          const [logs] = read(ids, [slot]).logs;
          word = logs.indexOf(Math.max(...logs));
          if (word === EOS) break;}
        yield said.join(" ");}};};

  return {"clip-mini-resnet": dualEncoder, "captioner-grid": captioner, attngan: attnGAN, dfgan: dfGAN,
    dalle: dallE, "word-space": wordSpace, vilbert: viLBERT, flamingo, withArticle};
}

/* Answers messages {id, call, given}: what a model's generator yields is posted one by one, as {id, value}, then
   {id, done}. It runs in a worker, or, where a browser has none, in the page. */
function mmlearnServe(nn, models, post) {
  let model;
  return ({id, call, given}) => {
    try {
      if (call === "open") model = models[given[0]](nn.readSafetensors(given[2]), given[1]);
      else for (const value of model[call](...given)) post({id, value});
      post({id, done: true});
    } catch (error) {post({id, error: error.message});}};
}
