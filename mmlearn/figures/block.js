(() => {const D = __DATA__;
for (const R of document.querySelectorAll('[data-mm="__ID__"]:not([data-on])')) {
  R.dataset.on = 1;
  const all = s => [...R.querySelectorAll(s)], S = all('.mm-stage')[0], still = S.firstElementChild;
  const put = (text, name, where, place) => {
    const d = document.createElement('div');
    d.className = name; d.innerHTML = text; where.insertAdjacentElement(place, d);
    return d;};
  if (D.under) put(D.under, 'mm-frame', S, 'beforeend');
  if (D.words) put(D.words, 'mm-words', S, 'beforebegin');
  if (D.bar) put(D.bar, 'mm-bar', S, 'afterend');
  const frames = D.frames.map(text => text ? put(text, 'mm-frame mm-off', S, 'beforeend') : still);
  if (D.frames[D.start]) still.remove();
  const sliders = all('input'), words = all('.mm-words button');
  const [back, play, next] = all('.mm-bar button');
  let at = D.start, timer = 0, x0 = null;
  const show = i => {
    let rest = at = Math.max(0, Math.min(frames.length - 1, i));
    frames.forEach((f, j) => {f.classList.toggle('mm-off', j != at); f.setAttribute('aria-hidden', j != at);});
    words.forEach((w, j) => w.setAttribute('aria-pressed', j == at));
    [...sliders].reverse().forEach((x, k) => {
      const values = D.axes[sliders.length - 1 - k], v = rest % values.length;
      rest = (rest - v) / values.length;
      x.value = v; x.setAttribute('aria-valuetext', values[v]); x.nextElementSibling.value = values[v];});};
  const run = on => {clearInterval(timer);
    timer = on ? setInterval(() => {show(at + 1); if (at == frames.length - 1) run(false);}, D.wait) : 0;
    if (play) {play.innerHTML = on ? D.pause : D.play; play.setAttribute('aria-label', on ? 'pause' : 'play');}};
  const go = i => {run(false); show(i);};
  if (play) {
    back.onclick = () => go(at - 1); next.onclick = () => go(at + 1);
    play.onclick = () => {if (!timer && at == frames.length - 1) show(0); run(!timer);};}
  for (const x of sliders) x.oninput = () => go(sliders.reduce((i, y, k) => i * D.axes[k].length + +y.value, 0));
  words.forEach((w, i) => {
    w.onclick = w.onfocus = () => go(i);
    w.onpointerenter = e => {if (e.pointerType == 'mouse') go(i);};});
  R.onkeydown = e => {
    const to = {ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: frames.length - 1}[e.key];
    if (to === undefined || e.target.type == 'range') return;
    e.preventDefault(); e.stopPropagation(); go(to);
    if (words.length) words[at].focus();};
  S.onpointerdown = e => {x0 = e.clientX;};
  S.onpointerup = e => {
    const d = e.clientX - x0;
    if (x0 !== null && Math.abs(d) > 40 && sliders.length < 2) go(at + (d < 0 ? 1 : -1));
    x0 = null;};
  if (D.area) {
    const [l, t, r, m] = D.area, [nx, ny] = D.axes.map(a => a.length);
    const point = e => {
      const b = frames[at].querySelector('svg,img').getBoundingClientRect();
      const u = ((e.clientX - b.left) / b.width - l) / (r - l), v = (m - (e.clientY - b.top) / b.height) / (m - t);
      if (u >= 0 && u < 1 && v >= 0 && v < 1) go(Math.floor(u * nx) * ny + Math.floor(v * ny));};
    S.onpointerdown = point; S.onpointermove = e => {if (e.pointerType == 'mouse') point(e);};}
  show(at);
}})();
