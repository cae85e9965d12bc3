/* The book's smallest inference engine: what a trained network needs to answer, in one file of plain JavaScript.

   A tensor is {shape, data}: its sizes and its numbers, row by row, in 32 bits. There are no batches: a picture
   is (c, y, x), a text is (t, d). Every product of the book's models (a linear layer, a convolution, attention)
   is the one function `matmul`, which sums in 64 bits, so that answers differ from PyTorch's by its own rounding
   only. Weights are read from the `.safetensors` files that the chapters wrote; layers are called by their names
   in those files, so that models.js reads like the Python modules it follows.

   The functions stand inside one function because a worker (a thread of the browser that leaves the page free)
   is started from its text: a page opened from a disk may load a worker in no other way. */
function mmlearnEngine() {
  "use strict";

  // ---------------------------------------------------------------------------------------------- tensors
  const count = shape => shape.reduce((product, n) => product * n, 1);
  const tensor = (shape, data) => ({shape, data: data || new Float32Array(count(shape))});
  const map = (x, f) => tensor(x.shape, x.data.map(f));
  const zip = (x, y, f) => tensor(x.shape, x.data.map((v, i) => f(v, y.data[i])));
  const add = (x, y) => zip(x, y, (a, b) => a + b);
  const reshape = (x, ...shape) => tensor(shape, x.data);
  const rows = (x, from, to) => {                                  // part of the first axis
    const n = count(x.shape.slice(1));
    return tensor([to - from, ...x.shape.slice(1)], x.data.subarray(from * n, to * n));};
  const cat = (...parts) => {                                      // along the first axis
    const out = tensor([parts.reduce((n, x) => n + x.shape[0], 0), ...parts[0].shape.slice(1)]);
    let at = 0;
    for (const x of parts) {out.data.set(x.data, at); at += x.data.length;}
    return out;};
  const transpose = x => {                                         // (n, m) -> (m, n)
    const [n, m] = x.shape, out = tensor([m, n]);
    for (let i = 0; i < n; i++) for (let j = 0; j < m; j++) out.data[j * n + i] = x.data[i * m + j];
    return out;};

  /* A (m, k) times the transpose of B (n, k) -> (m, n). Two rows meet four: eight sums stay in registers, and a
     number that is fetched is used more than once. Larger blocks do not fit into the registers. */
  const matmul = (A, B) => {
    const [m, k] = A.shape, n = B.shape[0], a = A.data, b = B.data, out = new Float32Array(m * n);
    if (B.shape[1] !== k) throw new Error(`matmul: rows of ${k} and of ${B.shape[1]} numbers`);
    const m2 = m - m % 2, n4 = n - n % 4;
    for (let i = 0; i < m2; i += 2) for (let j = 0; j < n4; j += 4) {
      const p = i * k, q = p + k, c0 = j * k, c1 = c0 + k, c2 = c1 + k, c3 = c2 + k;
      let s0 = 0, s1 = 0, s2 = 0, s3 = 0, t0 = 0, t1 = 0, t2 = 0, t3 = 0;
      for (let x = 0; x < k; x++) {
        const u = a[p + x], v = a[q + x], w0 = b[c0 + x], w1 = b[c1 + x], w2 = b[c2 + x], w3 = b[c3 + x];
        s0 += u * w0; s1 += u * w1; s2 += u * w2; s3 += u * w3;
        t0 += v * w0; t1 += v * w1; t2 += v * w2; t3 += v * w3;}
      const o = i * n + j, l = o + n;
      out[o] = s0; out[o + 1] = s1; out[o + 2] = s2; out[o + 3] = s3;
      out[l] = t0; out[l + 1] = t1; out[l + 2] = t2; out[l + 3] = t3;}
    for (let i = 0; i < m; i++) for (let j = i < m2 ? n4 : 0; j < n; j++) {          // what is left at the edges
      let sum = 0;
      for (let x = 0; x < k; x++) sum += a[i * k + x] * b[j * k + x];
      out[i * n + j] = sum;}
    return tensor([m, n], out);};

  // ------------------------------------------------------------------------------------------- activations
  const sigmoid = v => 1 / (1 + Math.exp(-v));
  const relu = x => map(x, v => v > 0 ? v : 0);
  const tanh = x => map(x, Math.tanh);
  const silu = x => map(x, v => v / (1 + Math.exp(-v)));
  const quickGelu = x => map(x, v => v * sigmoid(1.702 * v));                        // eq:quick-gelu
  /* eq:gelu, with Hastings' way to the normal distribution as Numerical Recipes has it: within 1.2e-7. */
  const ERF = [-1.26551223, 1.00002368, .37409196, .09678418, -.18628806, .27886807, -1.13520398, 1.48851587,
    -.82215223, .17087277];
  const below = v => {                                             // how likely a normal number is below v
    const z = Math.abs(v) / Math.SQRT2, t = 1 / (1 + z / 2);
    const tail = t / 2 * Math.exp(-z * z + ERF.reduceRight((sum, c) => sum * t + c));
    return v < 0 ? tail : 1 - tail;};
  const gelu = x => map(x, v => v * below(v));
  const glu = x => {                                               // eq:glu: the second half opens the first
    const half = x.shape[0] / 2, a = rows(x, 0, half), b = rows(x, half, 2 * half);
    return zip(a, b, (v, gate) => v * sigmoid(gate));};
  const softmax = x => {                                           // over the last axis; zeros where all is barred
    const n = x.shape[x.shape.length - 1], out = new Float32Array(x.data.length);
    for (let i = 0; i < out.length; i += n) {
      let top = -Infinity, sum = 0;
      for (let j = i; j < i + n; j++) top = Math.max(top, x.data[j]);
      if (top === -Infinity) continue;
      for (let j = i; j < i + n; j++) sum += out[j] = Math.exp(x.data[j] - top);
      for (let j = i; j < i + n; j++) out[j] /= sum;}
    return tensor(x.shape, out);};
  const logSoftmax = values => {                                   // of one list of numbers
    const top = values.reduce((a, b) => Math.max(a, b));
    const log = top + Math.log(values.reduce((sum, v) => sum + Math.exp(v - top), 0));
    return Array.from(values, v => v - log);};
  const normalise = x => {                                         // rows (t, d) of length 1; of zeros, zeros
    const [t, d] = x.shape, out = tensor([t, d]);
    for (let i = 0; i < t; i++) {
      let square = 0;
      for (let j = i * d; j < (i + 1) * d; j++) square += x.data[j] ** 2;
      for (let j = i * d; j < (i + 1) * d; j++) out.data[j] = x.data[j] / (Math.sqrt(square) || 1);}
    return out;};

  // ------------------------------------------------------------------- maps (c, y, x): convolution and sides
  /* im2col: one row for each place of the result, with all the numbers that its filters see, 0 outside. */
  const patches = (x, size, stride, pad) => {
    const [c, h, w] = x.shape, oh = Math.floor((h + 2 * pad - size) / stride) + 1;
    const ow = Math.floor((w + 2 * pad - size) / stride) + 1, out = tensor([oh * ow, c * size * size]);
    let at = 0;
    for (let oy = 0; oy < oh; oy++) for (let ox = 0; ox < ow; ox++)
      for (let i = 0; i < c; i++) for (let dy = 0; dy < size; dy++) {
        const y = oy * stride - pad + dy, row = (i * h + y) * w;
        for (let dx = 0; dx < size; dx++, at++) {
          const left = ox * stride - pad + dx;
          if (y >= 0 && y < h && left >= 0 && left < w) out.data[at] = x.data[row + left];}}
    return [out, oh, ow];};
  const conv = (x, weight, stride = 1, bias = null) => {   // filters (o, c, s, s) that keep the sides, or divide them
    const [o, c, size] = weight.shape, [seen, h, w] = patches(x, size, stride, size >> 1);
    const out = matmul(reshape(weight, o, c * size * size), seen).data;
    if (bias) for (let i = 0; i < out.length; i++) out[i] += bias.data[i / (h * w) | 0];
    return tensor([o, h, w], out);};
  const upsample = x => {                                          // every cell four times
    const [c, h, w] = x.shape, out = tensor([c, 2 * h, 2 * w]);
    for (let i = 0, at = 0; i < c; i++) for (let y = 0; y < 2 * h; y++) for (let k = 0; k < 2 * w; k++, at++)
      out.data[at] = x.data[(i * h + (y >> 1)) * w + (k >> 1)];
    return out;};
  const meanPool = (x, n) => {                                     // the mean of n x n cells
    const [c, h, w] = x.shape, out = tensor([c, h / n, w / n]);
    for (let i = 0, at = 0; i < c; i++) for (let y = 0; y < h; y += n) for (let k = 0; k < w; k += n, at++) {
      let sum = 0;
      for (let a = 0; a < n; a++) for (let b = 0; b < n; b++) sum += x.data[(i * h + y + a) * w + k + b];
      out.data[at] = sum / (n * n);}
    return out;};
  const cells = x => transpose(reshape(x, x.shape[0], x.shape[1] * x.shape[2]));     // (c, y, x) -> (p, c)

  // ------------------------------------------------------- layers, by the name of their weights in a file W
  const linear = (x, W, name) => {                                 // (t, d) -> (t, o), with a bias if there is one
    const out = matmul(x, W[name + ".weight"]), bias = W[name + ".bias"], o = out.shape[1];
    if (bias) for (let i = 0; i < out.data.length; i++) out.data[i] += bias.data[i % o];
    return out;};
  const batchNorm = (x, W, name, eps = 1e-5) => {                  // with the statistics of training
    const get = part => W[`${name}.${part}`].data, n = x.data.length / x.shape[0];
    const [gain, bias, mean, spread] = ["weight", "bias", "running_mean", "running_var"].map(get);
    const scale = gain.map((g, c) => g / Math.sqrt(spread[c] + eps));
    return tensor(x.shape, x.data.map((v, i) => {
      const c = i / n | 0;
      return (v - mean[c]) * scale[c] + bias[c];}));};
  const groupNorm = (x, W, name, groups, eps = 1e-5) => {          // maps (c, y, x), a group of channels on its own
    const out = tensor(x.shape), gain = W[name + ".weight"].data, bias = W[name + ".bias"].data;
    const n = x.data.length / groups, place = x.data.length / x.shape[0];
    for (let g = 0; g < groups; g++) {
      let mean = 0, spread = 0;
      for (let i = g * n; i < (g + 1) * n; i++) mean += x.data[i] / n;
      for (let i = g * n; i < (g + 1) * n; i++) spread += (x.data[i] - mean) ** 2 / n;
      const scale = 1 / Math.sqrt(spread + eps);
      for (let i = g * n, c; i < (g + 1) * n; i++)
        out.data[i] = (x.data[i] - mean) * scale * gain[c = i / place | 0] + bias[c];}
    return out;};
  const layerNorm = (x, W, name, eps = 1e-5) => {                  // each row on its own
    const [t, d] = x.shape, out = tensor([t, d]), gain = W[name + ".weight"].data, bias = W[name + ".bias"].data;
    for (let i = 0; i < t; i++) {
      const row = x.data.subarray(i * d, (i + 1) * d);
      const mean = row.reduce((sum, v) => sum + v, 0) / d;
      const scale = 1 / Math.sqrt(row.reduce((sum, v) => sum + (v - mean) ** 2, 0) / d + eps);
      for (let j = 0; j < d; j++) out.data[i * d + j] = (row[j] - mean) * scale * gain[j] + bias[j];}
    return out;};
  const embedding = (table, ids) => cat(...ids.map(i => rows(table, i, i + 1)));     // ids -> (t, d)

  /* Queries (part 0), keys (1) or values (2) of rows (t, d), as columns (d, t): "in_weight" (3d, d) holds the three
     projections as one matrix. */
  const project = (x, W, name, part) => {
    const weight = W[name + ".in_weight"], bias = W[name + ".in_bias"], d = weight.shape[0] / 3;
    const own = whole => whole && rows(whole, part * d, (part + 1) * d);
    return transpose(linear(x, {"p.weight": own(weight), "p.bias": own(bias)}, "p"));};

  /* eq:attention in `heads` parts of the width: what queries (d, t) read of keys and values (d, s), as rows (t, d),
     and the weights (h, t, s) with which they read. `sees(i, j)` says whether query i may look at place j; one that
     may look nowhere reads zeros. */
  const attend = (Q, K, V, heads, sees = null) => {
    const [d, t] = Q.shape, s = K.shape[1], e = d / heads, weights = tensor([heads, t, s]), read = [];
    for (let h = 0; h < heads; h++) {
      const part = X => rows(X, h * e, (h + 1) * e);               // (e, t) or (e, s)
      const scores = map(matmul(transpose(part(Q)), transpose(part(K))), v => v / Math.sqrt(e));
      if (sees) scores.data.forEach((_, i) => {if (!sees(i / s | 0, i % s)) scores.data[i] = -Infinity;});
      const seen = softmax(scores);
      weights.data.set(seen.data, h * t * s);
      read.push(transpose(matmul(seen, part(V))));}                // (t, s) (e, s) -> (e, t)
    return {read: transpose(cat(...read)), weights};};
  const past = (i, j) => j <= i;                                   // a causal query sees the places up to its own

  /* What rows (t, d) read of a source (s, d), through the matrix "out", and the weights. Keys and values may be those
     of `other` weights. A source keeps what was projected of it: a picture that is read for every word is projected
     once. */
  const attention = (x, source, W, name, heads, causal = false, other = name) => {
    const kept = source.kept = source.kept || {}, Q = project(x, W, name, 0);
    const [K, V] = kept[other] = kept[other] || [project(source, W, other, 1), project(source, W, other, 2)];
    const {read, weights} = attend(Q, K, V, heads, causal ? past : null);
    return {out: linear(read, W, name + ".out"), weights};};

  /* eq:lm-rotary: in each head the numbers i and i + e/2 of place p are turned by p / 10000^(2i/e); columns (d, t).
     Angles are rounded as PyTorch rounds them. */
  const rotate = (X, heads) => {
    const [d, t] = X.shape, e = d / heads, out = tensor([d, t]);
    for (let row = 0; row < d; row++) {
      const i = row % e % (e / 2), first = row % e < e / 2, pair = first ? row + e / 2 : row - e / 2;
      const rate = Math.fround(10000 ** Math.fround(-2 * i / e));
      for (let p = 0; p < t; p++) {
        const angle = Math.fround(p * rate), side = (first ? -1 : 1) * Math.sin(angle);
        out.data[row * t + p] = X.data[row * t + p] * Math.cos(angle) + X.data[pair * t + p] * side;}}
    return out;};

  /* One direction of an LSTM over rows (t, d): its states (t, e), in the order of the rows. */
  const lstm = (x, W, name, back = false) => {
    const end = back ? "_l0_reverse" : "_l0", t = x.shape[0], get = part => W[`${name}.${part}${end}`];
    const inputs = linear(x, {"p.weight": get("weight_ih"), "p.bias": get("bias_ih")}, "p");
    const e = inputs.shape[1] / 4, states = tensor([t, e]);
    let h = tensor([1, e]), cell = new Float32Array(e);
    for (let step = 0; step < t; step++) {
      const at = back ? t - 1 - step : step;
      const z = linear(h, {"p.weight": get("weight_hh"), "p.bias": get("bias_hh")}, "p").data
        .map((v, i) => v + inputs.data[at * 4 * e + i]);                             // input, forget, new, output
      cell = cell.map((c, i) => sigmoid(z[e + i]) * c + sigmoid(z[i]) * Math.tanh(z[2 * e + i]));
      h = tensor([1, e], cell.map((c, i) => sigmoid(z[3 * e + i]) * Math.tanh(c)));
      states.data.set(h.data, at * e);}
    return states;};

  /* eq:sinusoid for `length` places and `width` numbers, as mmlearn.nn.positions has it. */
  const sinusoids = (length, width) => tensor([length, width], Float32Array.from({length: length * width}, (_, i) => {
    const j = i % width, angle = Math.floor(i / width) * 10000 ** (-(j - j % 2) / width);
    return j % 2 ? Math.cos(angle) : Math.sin(angle);}));

  // ------------------------------------------------------------------------------- reading .safetensors files
  /* All numbers of 16 bits as those of 32: a sign, an exponent of 5 bits, a fraction of 10. */
  let halves = null;
  const half = bits => {
    const sign = bits >> 15 ? -1 : 1, exponent = bits >> 10 & 31, part = (bits & 1023) / 1024;
    if (exponent === 31) return part ? NaN : sign * Infinity;
    return sign * (exponent ? 2 ** (exponent - 15) * (1 + part) : 2 ** -14 * part);};
  /* The tensors of a file by their names: eight bytes say how long its table of names, types, shapes and places
     is, then comes the table as JSON, then the numbers. Types are F16 and F32; counters (I64) are left out. */
  const readSafetensors = buffer => {
    const length = Number(new DataView(buffer).getBigUint64(0, true));
    const table = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, length))), tensors = {};
    for (const [name, about] of Object.entries(table)) {
      if (name === "__metadata__" || about.dtype === "I64") continue;
      const bytes = buffer.slice(8 + length + about.data_offsets[0], 8 + length + about.data_offsets[1]);
      if (about.dtype === "F32") tensors[name] = tensor(about.shape, new Float32Array(bytes));
      else if (about.dtype === "F16") {
        const bits = new Uint16Array(bytes), numbers = new Float32Array(bits.length);
        halves = halves || Float32Array.from({length: 65536}, (_, i) => half(i));
        for (let i = 0; i < bits.length; i++) numbers[i] = halves[bits[i]];
        tensors[name] = tensor(about.shape, numbers);
      } else throw new Error(`${name} has type ${about.dtype}; F16 and F32 can be read`);}
    return tensors;};

  // ----------------------------------------------------------------------------------------------- random numbers
  /* torch.Generator().manual_seed(seed): the Mersenne twister, a function that gives 32 random bits. */
  const generator = seed => {
    const state = new Uint32Array(624);
    state[0] = seed;
    for (let j = 1; j < 624; j++) state[j] = Math.imul(1812433253, state[j - 1] ^ state[j - 1] >>> 30) + j;
    let at = 624;
    return () => {
      if (at === 624) {
        for (let j = 0; j < 624; j++) {
          const y = state[j] & 0x80000000 | state[(j + 1) % 624] & 0x7fffffff;
          state[j] = state[(j + 397) % 624] ^ y >>> 1 ^ (y & 1 ? 0x9908b0df : 0);}
        at = 0;}
      let y = state[at++];
      y ^= y >>> 11; y ^= y << 7 & 0x9d2c5680; y ^= y << 15 & 0xefc60000;
      return (y ^ y >>> 18) >>> 0;};};
  /* torch.randn(n, generator=…) for n a multiple of 16: 24 bits a number, and Box-Muller in blocks of sixteen. */
  const randn = (n, seed) => {
    const bits = generator(seed), out = Float32Array.from({length: n}, () => (bits() & 0xffffff) / 2 ** 24);
    for (let i = 0; i < n; i += 16) for (let j = i; j < i + 8; j++) {
      const radius = Math.sqrt(-2 * Math.log(1 - out[j])), angle = 2 * Math.PI * out[j + 8];
      out[j] = radius * Math.cos(angle); out[j + 8] = radius * Math.sin(angle);}
    return out;};
  /* Normal numbers between -bound and bound, of as many numbers of torch.rand(n, generator=…): eq:dfgan-truncated. The
     distribution function is a series, and Newton's steps from the middle find where it has a value. */
  const truncated = (n, seed, bound = 2) => {
    const bits = generator(seed), density = x => Math.exp(-x * x / 2) / Math.sqrt(2 * Math.PI);
    const below = x => {
      let term = x, sum = x;
      for (let k = 3; Math.abs(term) > 1e-17 * Math.abs(sum); k += 2) sum += term *= x * x / k;
      return .5 + density(x) * sum;};
    const tail = below(-bound);
    return Float32Array.from({length: n}, () => {
      const p = tail + (bits() & 0xffffff) / 2 ** 24 * (1 - 2 * tail);
      let x = 0;
      for (let i = 0; i < 40; i++) x += (p - below(x)) / density(x);
      return x;});};
  /* torch.multinomial(odds, 1, generator=…): the place with the largest odds / e, e exponential, of 53 bits each. This
     place is i with the probability odds[i], for the shortest of several waits is. */
  const draw = (odds, bits) => {
    let best = 0, most = -1;
    odds.forEach((p, i) => {
      const u = ((bits() & 0x1fffff) * 2 ** 32 + bits()) / 2 ** 53, ratio = p / -Math.log1p(-u);
      if (ratio > most) {most = ratio; best = i;}});
    return best;};

  // --------------------------------------------------------------------------------------------------- tokenisers
  /* Words as mmlearn.data.ptb splits them. Python's classes of characters are written out: \w is [\p{L}\p{N}_],
     \d is \p{Nd}. Where JavaScript has no pattern that minds capitals in one place only, three patterns are tried
     one after another at each place of the text. */
  const L = "(?:(?![²³¹⁰-₟⅐-⅟])[\\p{L}\\p{Nl}\\p{No}])";
  const A = "(?:(?![²³¹⁰-₟⅐-⅟])[\\p{L}\\p{N}][\\u0300-\\u036f]*)";
  const W_ = "[\\p{L}\\p{N}_]", D = "\\p{Nd}", S = "[\\s\\x1c-\\x1f\\x85]", N_ = "[^\\s\\x1c-\\x1f\\x85]";
  const SPLIT = {cannot: "can not", gonna: "gon na", wanna: "wan na", gimme: "gim me", lemme: "lem me", gotta: "got ta"};
  const SHORT = ("st mr mrs ms dr prof rev gen col capt lt sgt gov sen jr sr vs mt ft ave blvd rd etc dept inc co " +
    "corp ltd bros jan feb mar apr jun jul aug sept oct nov dec mon tue wed thu fri est sq ph\\.d").replace(/ /g, "|");
  const WHOLE = new RegExp(`(?:https?://|www\\.)${N_}*[\\p{L}\\p{N}_/]|</?[a-z][^<>]*>|` +
    `\\(${D}{3}\\) ?${D}{3}-${D}{4}|[:;=]-?[()](?!${W_})`, "iuy");
  const CAPITALS = /[A-Z]+(?:&[A-Z]+)+|[A-Z]{1,3}\$/uy;
  const TOKEN = new RegExp([
    `[@#]${L}${W_}*|[\\p{L}\\p{N}_.]+@${W_}[\\p{L}\\p{N}_.]*`,                                 // @user, #tag
    `${L}(?:\\.${L})+\\.?(?!${A}|\\.${L})(?:-${A}+)*`,                                         // a.m., U.S.-made
    `(?:${SHORT}|${L})\\.(?!${L})|(?:nos?|fig|pp|art|op)\\.(?=${S}*${D})`,                     // St., No. 5
    `(?<split>${Object.keys(SPLIT).join("|")})(?!${W_}|[-/'’]${W_})`,                          // cannot
    `(?<clitic>n['’\`]t(?!${W_})|['’](?:s|m|d|re|ve|ll)(?!${W_})|'t(?=(?:is|was)(?!${W_})))`,  // n't, 's
    `${L}+?(?=n['’\`]t(?!${W_}))`,                                                             // do, before n't
    `['’](?:n['’]|(?:n|cause|em|til|${D}0s)(?!${W_})|${D}${D}(?=${S}))`,                       // 'n', 'em, '90s
    `(?:c['’]mon|s['’]mores|ma['’]am|[eno]e?['’]er|cap['’]n|ol['’])(?!${W_})`,                 // ma'am, ol'
    `y['’](?=(?:all|know)(?!${W_}))`,                                                          // y' of y'all
    `${L}+(?:[.?!]${L}+)+(?:-${A}+)*`,                                                         // mat.The
    `${D}+(?:[.,]${D}+)+${A}*(?:-${A}+)+`,                                                     // 1.5-inch
    `[+-]?[.,:]${D}+(?:[.,:]${D}+)*|[+-]${D}+(?:[.,:]${D}+)*|${D}+(?:[.,:]${D}+)+`,            // -5, 1,000, 7:30
    `c\\+\\+|[cf]#|(?:[dlno]['’](?=${L}))?${A}+(?:[-/_‐‑](?:[dlno]['’])?${A}+)*`,              // o'clock, and/or
    `[?!]+|\\.\\.\\.|-+|\\*+|#+|_+|\`\`|''|${N_}`].join("|"), "iuy");
  const DROPPED = new Set("'' ' `` ` -LRB- -RRB- -LCB- -RCB- . ? ! , : - -- ... ;".split(" "));
  const WRITTEN = new Map([["(", "-lrb-"], [")", "-rrb-"], ["[", "-lsb-"], ["]", "-rsb-"], ["{", "-lcb-"], ["}", "-rcb-"],
    ['"', "''"], ["’", "'"], ["---", "--"], ["£", "#"], ["€", "$"], ["¢", "cents"]]);
  const REWRITTEN = [[/&amp;/g, " & "], [/&lt;/g, " < "], [/&gt;/g, " > "], [/&quot;/g, ' " '], [/[–—―]/g, " -- "],
    [/[\u{10000}-\u{10ffff}]/gu, " "], [/[\x00-\x1f\x7f-\x9f\u200b\u2012\u2028\u2029]/g, " "], [/[“”«»]/g, ' " '],
    [/[‘‹›‛]/g, "`"], [/\xad/g, ""], [/…/g, " ... "], [/½/g, " 1/2 "], [/¼/g, " 1/4 "], [/¾/g, " 3/4 "],
    [/⅓/g, " 1/3 "], [/⅔/g, " 2/3 "]];
  const words = text => {
    for (const [from, to] of REWRITTEN) text = text.replace(from, to);
    const out = [], space = new RegExp(S, "y"), match = (pattern, at) => {
      pattern.lastIndex = at;
      return pattern.exec(text);};
    for (let at = 0; at < text.length;) {
      if (match(space, at)) {at++; continue;}
      const whole = match(WHOLE, at), found = whole || match(CAPITALS, at) || match(TOKEN, at);
      let token = found[0].toLowerCase();
      const kind = found.groups || {};
      at += found[0].length;
      if (whole) {
        if ("(:;=".includes(token[0])) token = token.replace(/\(/g, "-lrb-").replace(/\)/g, "-rrb- ");
        out.push(...token.split(/\s+/).filter(Boolean));
      } else if (kind.split) out.push(...SPLIT[token].split(" "));
      else out.push(kind.clitic ? token.replace(/’/g, "'") : WRITTEN.get(token) || token);}
    return out.filter(token => !DROPPED.has(token));};

  /* Runs of letters and digits with inner apostrophes, hyphens and dots, as mmlearn.data.tokenisers has them. */
  const simpleWords = text =>
    text.toLowerCase().match(/[\p{L}\p{N}]+(?:['’.\-][\p{L}\p{N}]+)*|[$%&]/gu) || [];

  /* A vocabulary: the first four words are <unk> <pad> <bos> <eos>, which no text can spell. */
  const tokeniser = (list, split = words) => {
    const index = new Map(list.map((word, i) => [word, i]).slice(4));
    const encode = text => split(text).map(word => index.get(word) || 0);
    return {words: list, encode, has: word => index.has(word), decode: ids => ids.map(i => list[i]).join(" ")};};

  return {tensor, map, zip, add, reshape, rows, cat, transpose, matmul, relu, tanh, silu, quickGelu, gelu, glu, softmax,
    logSoftmax, normalise, conv, upsample, meanPool, cells, linear, batchNorm, groupNorm, layerNorm, embedding, project,
    attend, past, attention, rotate, lstm, sinusoids, readSafetensors, generator, randn, truncated, draw, words,
    simpleWords, tokeniser};
}
