/* What a reader sees and does with a live model. A widget is built into its place (`root`) once its model has been
   opened; `model.ask(call, …)` runs one of the model's generators in a worker and gives what it yields last. */
const mmlearnWidgets = (() => {
  "use strict";

  // ---------------------------------------------------------------------------------- the worker of a model
  const start = async (name, about, weights) => {
    const waiting = {};
    let count = 0, send;
    const heard = ({id, value, done, error}) => {
      const task = waiting[id];
      if (error !== undefined) task.failed(new Error(error));
      else if (done) task.done(task.last);
      else {task.last = value; task.part(value);}};
    try {
      const text = `const nn = (${mmlearnEngine})(), models = (${mmlearnModels})(nn);
        const answer = (${mmlearnServe})(nn, models, postMessage);
        onmessage = event => answer(event.data);`;
      const worker = new Worker(URL.createObjectURL(new Blob([text], {type: "text/javascript"})));
      worker.onmessage = event => heard(event.data);
      worker.onerror = event => Object.values(waiting).forEach(task => task.failed(new Error(event.message)));
      send = message => worker.postMessage(message);
    } catch (error) {                                              // no workers here: the page waits with the reader
      const nn = mmlearnEngine(), answer = mmlearnServe(nn, mmlearnModels(nn), heard);
      send = message => setTimeout(() => answer(message));}
    const run = (call, given, part = () => {}) => {
      const id = ++count;                                          // of this task: others may start before its end
      return new Promise((done, failed) => {
        waiting[id] = {done, failed, part};
        send({id, call, given});}).finally(() => {delete waiting[id];});};
    await run("open", [name, about, weights]);
    return {about, run, ask: (call, ...given) => run(call, given)};};

  // ------------------------------------------------------------------------------------------- small parts
  const make = (tag, attributes = {}, ...inside) => {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes))
      if (name.startsWith("on") || name === "value" || name === "className") element[name] = value;
      else element.setAttribute(name, value);
    element.append(...inside);
    return element;};
  const field = (label, input) => make("label", {className: "mm-field"}, label, input);
  const button = (text, onclick, attributes = {}) =>
    make("button", {type: "button", className: "mm-wordy", onclick, ...attributes}, text);
  const later = (wait, action) => {                                // only the last of many calls in a row
    let timer = 0;
    return (...given) => {clearTimeout(timer); timer = setTimeout(() => action(...given), wait);};};
  const seconds = from => `${((performance.now() - from) / 1000).toFixed(2)} s`;
  const status = () => make("p", {className: "mm-soft", role: "status"});
  /* The words of a text as a model reads them, those that it has never read in grey; and a sentence about these. */
  const readAloud = (place, words) => {
    const unknown = [...new Set(words.filter(word => !word.known).map(word => word.word))];
    place.replaceChildren("read as: ", ...words.flatMap(({word, known}) => [make(known ? "b" : "s", {}, word), " "]));
    if (unknown.length) place.append(`— never seen in training: ${unknown.join(", ")}`);};
  /* One run after another; while one runs, only the newest of further wishes is kept. */
  const inTurn = (root, said, action) => {
    let busy = false, wish = null;
    return async function next(...given) {
      if (busy) {wish = given; return;}
      busy = true;
      root.setAttribute("aria-busy", "true");
      try {await action(...given);} catch (error) {said.textContent = `${error.message}.`;}
      busy = false;
      root.dataset.answers = 1 + +(root.dataset.answers || 0);
      if (wish) {const again = wish; wish = null; next(...again);} else root.setAttribute("aria-busy", "false");};};

  // ---------------------------------------------------------------------------------- pictures of 64 x 64 pixels
  const SIDE = 64, WIDE = 256;
  const planes = canvas => {                                       // (3, 64, 64) in [0, 1]
    const {data} = canvas.getContext("2d").getImageData(0, 0, SIDE, SIDE), n = SIDE * SIDE, out = new Float32Array(3 * n);
    for (let i = 0; i < n; i++) for (let c = 0; c < 3; c++) out[c * n + i] = data[4 * i + c] / 255;
    return out;};
  const canvas = (side, attributes = {}) => make("canvas", {width: side, height: side, ...attributes});
  const shown = about => canvas(WIDE, {className: "mm-shown", role: "img", "aria-label": about});
  const showLarge = (large, small) => {
    const pen = large.getContext("2d");
    pen.imageSmoothingQuality = "high";
    pen.clearRect(0, 0, WIDE, WIDE);                               // what was there would shine through at the edges
    pen.drawImage(small, 0, 0, WIDE, WIDE);};
  /* The picture, dark where the weights of a square grid are small; the largest is full light. */
  const light = (large, small, weights) => {
    const side = Math.sqrt(weights.length), mask = canvas(side), pen = mask.getContext("2d");
    const image = pen.createImageData(side, side);
    const most = weights.reduce((a, b) => Math.max(a, b));
    weights.forEach((weight, i) => {image.data[4 * i + 3] = 200 * (1 - (most && weight / most));});
    pen.putImageData(image, 0, 0);
    showLarge(large, small);
    large.getContext("2d").drawImage(mask, 0, 0, WIDE, WIDE);};
  const onto = (small, pixels) => {                                // (3, 64, 64) in [-1, 1] that were drawn
    const pen = small.getContext("2d"), image = pen.createImageData(SIDE, SIDE), n = SIDE * SIDE;
    for (let i = 0; i < n; i++) {
      for (let c = 0; c < 3; c++) image.data[4 * i + c] = Math.round((pixels[c * n + i] + 1) * 127.5);
      image.data[4 * i + 3] = 255;}
    pen.putImageData(image, 0, 0);};
  const put = (small, source) => {                                 // the square in the middle of a picture
    const w = source.naturalWidth || source.width, h = source.naturalHeight || source.height, side = Math.min(w, h);
    const pen = small.getContext("2d");
    pen.fillStyle = "#fff";
    pen.fillRect(0, 0, SIDE, SIDE);
    pen.imageSmoothingQuality = "high";
    pen.drawImage(source, (w - side) / 2, (h - side) / 2, side, side, 0, 0, SIDE, SIDE);};
  /* A row of pictures to pick and, `byHand`, a file to upload, a scene to build, a sheet to paint on; `chosen(small,
     about)` gets the picture. */
  const picker = (large, chosen, byHand = true, list = mmlearnLive.list) => {
    const small = canvas(SIDE);
    const row = make("div", {className: "mm-picks", role: "group", "aria-label": "choose a picture"});
    small.getContext("2d", {willReadFrequently: true});
    const press = pressed => row.querySelectorAll("button").forEach(b => b.setAttribute("aria-pressed", b === pressed));
    let leave = () => {}, wishes = 0;                              // pictures arrive late: only the newest wish counts
    const use = about => {
      wishes++;
      large.setAttribute("aria-label", about);
      showLarge(large, small);
      chosen(small, about);};
    for (const {picture, about} of list) {
      const image = make("img", {src: picture, alt: about});
      const pick = event => {
        const mine = ++wishes;
        leave();
        press(event.currentTarget);
        image.decode().then(() => {if (mine === wishes) {put(small, image); use(about);}});};
      row.append(make("button", {type: "button", "aria-label": about, title: about, "aria-pressed": "false", onclick: pick},
        image));}
    const file = make("input", {type: "file", accept: "image/*", onchange: async () => {
      if (!file.files.length) return;
      const mine = ++wishes, image = make("img", {alt: "", src: URL.createObjectURL(file.files[0])});
      leave();
      press(null);
      file.value = "";
      try {await image.decode();} catch (error) {large.setAttribute("aria-label", "no picture"); return;}
      finally {URL.revokeObjectURL(image.src);}
      if (mine !== wishes) return;
      put(small, image);
      use("your picture");}});
    if (byHand) row.append(make("label", {className: "mm-wordy"}, "Upload", file));

    /* Two ways to make a picture by hand: a mode has tools, and is told where the pointer goes down and moves. */
    const tools = make("div"), modes = {};
    let mode = null, held = false;
    const enter = next => {
      if (mode && mode.end) mode.end();
      mode = mode === next ? null : next;
      for (const each of Object.values(modes)) each.button.setAttribute("aria-pressed", each === mode);
      tools.replaceChildren(...mode ? [mode.tools] : []);
      large.style.touchAction = mode ? "none" : "auto";
      large.tabIndex = mode && mode.key ? 0 : -1;
      large.setAttribute("role", mode ? "application" : "img");
      large.onkeydown = mode && mode.key || null;
      if (mode && mode.begin) mode.begin().catch(error => {tools.textContent = `${error.message}.`;});};
    const at = event => {                                          // in shares of the picture's sides
      const box = large.getBoundingClientRect();
      return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];};
    large.onpointerdown = event => {
      if (!mode) return;
      held = true;
      large.setPointerCapture(event.pointerId);
      mode.down(at(event));};
    large.onpointermove = event => {if (held) mode.move(at(event));};
    large.onpointerup = large.onpointercancel = () => {
      if (!held) return;
      held = false;
      press(null);
      mode.up();};
    const add = (text, made) => {
      made.button = button(text, () => enter(made), {"aria-pressed": "false"});
      row.append(made.button);
      modes[text] = made;};
    if (byHand) {
      add("Build a scene", builder(large, small, about => {press(null); use(about);}));
      add("Paint on it", brushes(large, small, use));}
    leave = () => {if (mode) enter(mode);};
    row.after(tools);
    return {row, tools, small, pick: i => row.querySelectorAll("button")[i].click()};};

  /* Painting with the colours of the scene world and a round brush. */
  const COLOURS = {red: "#d8342c", orange: "#ee8a1d", yellow: "#f3cf2b", green: "#3c9c42", blue: "#2f6fd0",
    purple: "#8747b5", pink: "#ef8fb4", brown: "#8a5a33", white: "#f7f7f5", grey: "#8b8f96", black: "#26262b"};
  const options = names => names.map(name => make("option", {}, name));
  const choose = (names, first = 0, change = () => {}) => {
    const select = make("select", {onchange: change}, ...options(names));
    select.selectedIndex = first;
    return select;};
  const brushes = (large, small, use) => {
    const colour = choose(Object.keys(COLOURS)), widths = {fine: 2, medium: 5, broad: 10};
    const brush = choose(Object.keys(widths), 1);
    let from;
    const move = to => {
      const pen = small.getContext("2d");
      pen.strokeStyle = COLOURS[colour.value];
      pen.lineWidth = widths[brush.value];
      pen.lineCap = "round";
      pen.beginPath();
      pen.moveTo(SIDE * from[0], SIDE * from[1]);
      pen.lineTo(SIDE * to[0] + .01, SIDE * to[1]);
      pen.stroke();
      from = to;
      showLarge(large, small);};
    return {tools: make("div", {className: "mm-row"}, field("colour", colour), field("brush", brush)),
      down: place => {from = place; move(place);}, move, up: () => use("your painting")};};

  /* A scene from things of the scene world, which the pointer or the arrow keys move about. What is added last
     stands in front. */
  const builder = (large, small, use) => {
    const tools = make("div", {className: "mm-row"}), parts = [], images = {};
    let setting, thing, colour, size, ready = null, chosen = null, grip = null, asked = 0;
    const sizes = {small: .7, medium: 1, large: 1.4};
    const image = address => images[address] = images[address] || (async () => {
      const made = make("img", {src: address, alt: ""});
      await made.decode();
      return made;})();
    const draw = async (final = true) => {
      const mine = ++asked, sheet = await image(mmlearnLive.found[0][setting.value]);
      const cuts = await Promise.all(parts.map(part => image(part.cut[0])));
      if (mine !== asked) return;
      for (const target of [small, large]) {
        const pen = target.getContext("2d"), side = target.width;
        pen.imageSmoothingQuality = "high";
        pen.drawImage(sheet, 0, 0, side, side);
        parts.forEach(({x, y, w, h}, i) =>
          pen.drawImage(cuts[i], (x - w / 2) * side, (y - h / 2) * side, w * side, h * side));}
      const list = parts.map(part => part.name).join(", ") || "nothing";
      if (final) use(`your scene: ${list}, ${setting.value}`);};
    const put = () => {
      const {place, colours} = mmlearnLive.found[1][thing.value], cut = colours[colour.value], k = sizes[size.value];
      const w = Math.min(.96, cut[1] * k), h = cut[2] * w / cut[1];
      const y = place === "sky" ? .25 : place === "water" ? .62 : .86 - h / 2;
      const name = `a ${size.value} ${colour.value} ${thing.value}`;
      chosen = {name, cut, w, h, y, x: [.3, .7, .5][parts.length % 3]};
      parts.push(chosen);
      draw();};
    const drop = () => {
      parts.splice(parts.indexOf(chosen), parts.length ? 1 : 0);
      chosen = parts[parts.length - 1] || null;
      draw();};
    const shift = (dx, dy) => {
      chosen.x = Math.min(1, Math.max(0, chosen.x + dx));
      chosen.y = Math.min(1, Math.max(0, chosen.y + dy));};
    const prepare = async () => {
      await mmlearnLive.script("weights/things.js");
      const [settings, things] = mmlearnLive.found;
      setting = choose(Object.keys(settings), 0, () => draw());
      thing = choose(Object.keys(things), 2, () => recolour());
      colour = choose([]);
      size = choose(Object.keys(sizes), 1);
      const recolour = () => {
        colour.replaceChildren(...options(Object.keys(things[thing.value].colours)));
        colour.selectedIndex = 0;};
      recolour();
      tools.append(field("setting", setting), field("thing", thing), field("colour", colour), field("size", size),
        button("Add", put), button("Remove", drop),
        make("p", {className: "mm-soft"}, "Drag things about, or move the newest with the arrow keys."));};
    let open = false;
    const begin = async () => {
      open = true;
      ready = ready || prepare().catch(error => {ready = null; throw error;});
      await ready;
      if (!open) return;                                           // the reader has gone on meanwhile
      if (parts.length) draw(); else put();};
    const end = () => {open = false; asked++;};
    const inside = ([x, y]) => part => Math.abs(x - part.x) < part.w / 2 && Math.abs(y - part.y) < part.h / 2;
    return {tools, begin, end,
      down: place => {
        const hit = parts.filter(inside(place)).pop();
        chosen = hit || chosen;
        grip = hit ? place : null;},
      move: place => {
        if (!grip) return;
        shift(place[0] - grip[0], place[1] - grip[1]);
        grip = place;
        draw(false);},
      up: () => draw(),
      key: event => {
        const step = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]}[event.key];
        if (!chosen || !step && event.key !== "Delete") return;
        event.preventDefault();
        if (!step) {drop(); return;}
        shift(step[0] / 32, step[1] / 32);
        draw();}};};

  // ------------------------------------------------------------------------------------- zero-shot classification
  const classifier = (root, model, given) => {
    const large = shown(""), said = status(), read = make("div", {className: "mm-read"});
    const table = make("table", {className: "mm-odds", "aria-label": "probability of each label"});
    const labels = make("input", {value: given.labels.join(", "), autocomplete: "off", enterkeyhint: "done"});
    const answer = inTurn(root, said, async () => {
      const typed = labels.value.split(/[,;\n]/).map(name => name.trim().replace(/^an? /i, "")).filter(Boolean);
      const names = [...new Set(typed)].slice(0, 24);
      if (!names.length) {said.textContent = "Type a label or two, with commas between them."; return;}
      const from = performance.now(), words = [];
      for (const name of names) words.push(...await model.ask("read", name));
      const odds = await model.ask("classify", planes(chooser.small), names), took = seconds(from);
      readAloud(read, words);
      const order = names.map((_, i) => i).sort((a, b) => odds[b] - odds[a]);
      table.replaceChildren(make("tbody", {}, ...order.map(i => make("tr", {}, make("th", {scope: "row"}, names[i]),
        make("td", {style: "width:50%"}, make("span", {className: "mm-odd", style: `width:${100 * odds[i]}%`})),
        make("td", {}, `${(100 * odds[i]).toFixed(1)} %`)))));
      const [best] = order;
      said.textContent = `Most probable: ${names[best]}, ${(100 * odds[best]).toFixed(1)} %. Answered after ${took}.`;});
    labels.oninput = later(500, answer);
    labels.onkeydown = event => {if (event.key === "Enter") answer();};
    const chooser = picker(large, answer);
    root.append(chooser.row, make("div", {className: "mm-two"}, make("div", {}, large, chooser.tools),
      make("div", {className: "mm-side"}, field("labels, separated by commas", labels), read, table, said)));
    chooser.pick(given.scene);};

  // ------------------------------------------------------------------------------------------------- captions
  const captioner = (root, model, given) => {
    const large = shown(""), said = status();
    const words = make("div", {className: "mm-words", role: "group", "aria-label": "words of the caption"});
    const how = make("select", {onchange: () => write()}, make("option", {value: 1}, "the likeliest word each time (greedy)"),
      make("option", {value: 3}, "the best of three texts (beam)"));
    let run = 0;
    const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    const look = (word, where) => {                                // at nothing: the whole picture again
      words.querySelectorAll("button").forEach(b => b.setAttribute("aria-pressed", b === word));
      if (where) light(large, chooser.small, where); else showLarge(large, chooser.small);};
    /* What the model has written so far is shown a word at a time, as fast as one reads, until the next run begins. */
    const show = (mine, state, drawn = 0) => {
      if (mine !== run) return;
      if (drawn < state.text.words.length) {
        const where = state.text.where[drawn], word = make("button", {type: "button"}, state.text.words[drawn++]);
        word.onclick = word.onfocus = () => look(word, where);
        word.onpointerenter = event => {if (event.pointerType === "mouse") look(word, where);};
        words.append(word);
        look(word, where);
      } else if (state.took) {
        look();
        said.textContent = `“${state.text.words.join(" ")}” Written in ${state.took}. ` +
          "Point at a word to see where the model looked for it.";
        return;}
      setTimeout(show, calm ? 0 : 130, mine, state, drawn);};
    const ask = inTurn(root, said, async mine => {
      const from = performance.now(), beam = +how.value, state = {text: {words: [], where: []}, took: ""};
      show(mine, state);
      const part = text => {if (beam === 1) state.text = text;};  // the best text of a beam may still change
      try {state.text = await model.run("caption", [planes(chooser.small), beam], part);
      } catch (error) {run++; throw error;}
      state.took = seconds(from);});
    const write = () => {
      words.replaceChildren();
      said.textContent = "looking …";
      ask(++run);};
    words.onkeydown = event => {
      const to = {ArrowLeft: "previousSibling", ArrowRight: "nextSibling"}[event.key], next = to && event.target[to];
      if (next) {event.preventDefault(); next.focus();}};
    const chooser = picker(large, write);
    root.append(chooser.row, make("div", {className: "mm-two"}, make("div", {}, large, chooser.tools),
      make("div", {className: "mm-side"}, field("how words are chosen", how), words, said)));
    chooser.pick(given.scene);};

  // ------------------------------------------------------------------------------- questions about a picture
  const questioner = (root, model, given) => {
    const large = shown(""), said = status(), read = make("div", {className: "mm-read"});
    const text = make("input", {value: given.question, autocomplete: "off", enterkeyhint: "done"});
    const odds = make("table", {className: "mm-odds", "aria-label": "the likeliest words for the gap"});
    const looked = make("table", {className: "mm-odds", "aria-label": "where the model looked"});
    const rows = pairs => make("tbody", {}, ...pairs.map(([name, share]) => make("tr", {},
      make("th", {scope: "row"}, name),
      make("td", {style: "width:40%"}, make("span", {className: "mm-odd", style: `width:${100 * share}%`})),
      make("td", {}, `${(100 * share).toFixed(1)} %`))));
    /* Full light where a region is that was read, the whole picture as far as that was. */
    const cells = (scene, where) => {
      const side = 32, grid = new Float32Array(side * side).fill(where[0]);
      for (const [k, [left, top, right, low]] of model.about.boxes[scene].entries())
        for (let y = Math.floor(top * side); y < low * side; y++) for (let x = Math.floor(left * side); x < right * side; x++)
          grid[y * side + x] = Math.max(grid[y * side + x], where[k + 1]);
      return grid;};
    const answer = inTurn(root, said, async () => {
      const scene = mmlearnLive.list.findIndex(one => one.about === large.getAttribute("aria-label"));
      const asked = text.value, from = performance.now();
      const words = await model.ask("read", asked), found = await model.ask("fill", scene, asked), took = seconds(from);
      readAloud(read, words);
      const belongs = `Text and picture belong together: ${(100 * found.belongs).toFixed(1)} %. Answered after ${took}.`;
      if (!found.odds) {
        odds.replaceChildren();
        looked.replaceChildren();
        showLarge(large, chooser.small);
        said.textContent = `${belongs} Write ___ for a word that the model shall find.`;
        return;}
      const order = [...found.odds.slice(0, -1).keys()].sort((a, b) => found.odds[b] - found.odds[a]).slice(0, 5);
      const names = ["whole picture", ...model.about.names[scene].map((name, k) => `${k + 1} ${name}`)];
      odds.replaceChildren(rows(order.map(i => [model.about.words[i], found.odds[i]])));
      looked.replaceChildren(rows(names.map((name, k) => [name, found.where[k]])));
      light(large, chooser.small, cells(scene, found.where));
      said.textContent = `Likeliest word: ${model.about.words[order[0]]}. ${belongs}`;});
    text.oninput = later(500, answer);
    text.onkeydown = event => {if (event.key === "Enter") answer();};
    const chooser = picker(large, answer, false);
    root.append(chooser.row, make("div", {className: "mm-two"}, make("div", {}, large, make("p", {className: "mm-soft"},
      "What the place of the gap read of the picture:"), looked), make("div", {className: "mm-side"},
      field("a sentence with a gap, ___, or without one", text), read, odds, said, make("p", {className: "mm-soft"},
        "This miniature names things well; colours it mostly guesses."))));
    chooser.pick(given.scene);};

  // ----------------------------------------------------------------------------------------- words for pictures
  /* Three slots hold pictures: two get a word each, the third is asked for. What is picked, built or painted goes into
     the slot that is pressed. */
  const namer = (root, model, given) => {
    const {things, names} = model.about, large = shown(""), said = status();
    const odds = make("table", {className: "mm-odds", "aria-label": "how probable each word is"});
    const page = make("p", {className: "mm-page", "aria-label": "the page that the model reads"});
    const selects = given.names.map(name => choose(names, names.indexOf(name), () => answer()));
    let active = 2;
    const slots = given.things.map((thing, i) => {
      const own = canvas(SIDE, {role: "img", "aria-label": "a picture"}), slot = {own, about: "", pixels: null};
      own.getContext("2d", {willReadFrequently: true});
      slot.button = button("", () => enter(i), {"aria-pressed": "false"});
      slot.button.append(own);
      return slot;});
    const label = i => i < 2 ? `the picture of ${selects[i].value}` : "the picture that is asked for";
    const mark = () => slots.forEach(({button, about}, i) => {
      button.setAttribute("aria-pressed", i === active);
      button.setAttribute("aria-label", `${label(i)}: ${about}`);});
    const enter = i => {                                           // what is picked goes there; the large picture shows it
      active = i;
      mark();
      const pen = chooser.small.getContext("2d");
      pen.drawImage(slots[i].own, 0, 0);
      showLarge(large, chooser.small);
      large.setAttribute("aria-label", slots[i].about);};
    const fill = (slot, source, about) => {
      slot.own.getContext("2d").drawImage(source, 0, 0, SIDE, SIDE);
      slot.about = about;
      slot.pixels = planes(slot.own);
      mark();};
    const answer = inTurn(root, said, async () => {
      const from = performance.now(), [a, b] = selects.map(select => select.value);
      for (const [i, slot] of slots.entries()) {
        if (!slot.pixels) continue;                                // it has been seen
        const {pixels} = slot;
        slot.pixels = null;
        await model.ask("look", i, pixels);}
      if (a === b) {said.textContent = "Answered: nothing. Give each picture a word of its own."; return;}
      const found = await model.ask("bind", [[0, a], [1, b]], 2), best = found.odds[0] > found.odds[1] ? 0 : 1;
      odds.replaceChildren(make("tbody", {}, ...found.names.map((name, i) => make("tr", {},
        make("th", {scope: "row"}, name),
        make("td", {style: "width:50%"}, make("span", {className: "mm-odd", style: `width:${100 * found.odds[i]}%`})),
        make("td", {}, `${(100 * found.odds[i]).toFixed(1)} %`)))));
      let shown = 0;
      const most = found.where.reduce((x, y) => Math.max(x, y));
      page.replaceChildren(...found.page.slice(1).flatMap((token, k) => {
        const share = found.where[k + 1], shade = `--share:${Math.round(100 * share / most)}%`;
        if (token === "<image>") return [make("span", {className: "mm-small"}, copy(slots[shown].own, label(shown++)))];
        return [make("span", {style: shade, title: `${Math.round(100 * share)} %`},
          token === "<eos>" ? "<EOC>" : token === "output" ? "Output:" : token), " "];}),
        make("b", {}, "?"));
      const looked = [a, b].map(name => found.where[found.page.indexOf(name)]);
      said.textContent = `Likelier: ${found.names[best]}, ${(100 * found.odds[best]).toFixed(1)} %. ` +
        `In its last layer the open place at the end looks back at ${a} with ${Math.round(100 * looked[0])} % ` +
        `of its attention, at ${b} with ${Math.round(100 * looked[1])} %. Answered after ${seconds(from)}.`;});
    const copy = (source, about) => {
      const made = canvas(SIDE, {role: "img", "aria-label": about});
      made.getContext("2d").drawImage(source, 0, 0);
      return made;};
    const swap = button("Swap the two words", () => {
      [selects[0].value, selects[1].value] = selects.map(select => select.value).reverse();
      mark();
      answer();});
    const question = make("input", {value: "What is in the picture?", autocomplete: "off", enterkeyhint: "done"});
    const written = make("p", {className: "mm-read", role: "status"});
    const reply = inTurn(root, written, async () => {
      const from = performance.now(), slot = slots[2], words = await model.ask("read", question.value);
      const text = await model.ask("answer", 2, question.value);
      readAloud(written, words);
      written.prepend("it writes: ", make("b", {}, text || "(nothing)"), `, after ${seconds(from)}; `);});
    question.onkeydown = event => {if (event.key === "Enter") reply();};
    const chooser = picker(large, (small, about) => {
      if (slots[active].about) {fill(slots[active], small, about); answer();}}, true, things);
    const part = (text, i, below) => make("div", {className: "mm-slot"}, make("span", {className: "mm-soft"}, text),
      slots[i].button, below);
    root.append(chooser.row, make("div", {className: "mm-two"}, make("div", {}, large, chooser.tools),
      make("div", {className: "mm-side"}, make("div", {className: "mm-slots"}, part("this is a", 0, selects[0]),
        part("this is a", 1, selects[1]), part("and this?", 2, "")), make("p", {className: "mm-soft"},
        "Press one of the three, then choose its picture above, build it or paint on it."), swap, odds, page, said)),
      make("div", {className: "mm-row"}, field("a question about the third picture", question), button("Ask", reply)),
      written, make("p", {className: "mm-soft"}, "New words it binds well. Ordinary questions are its weak side: " +
        "of 400 it had 54 % right, and 48 % without looking."));
    selects.forEach((select, i) => select.setAttribute("aria-label", `the word for picture ${i + 1}`));
    Promise.all(given.things.map(async (thing, i) => {
      const image = make("img", {src: things[thing].picture, alt: ""});
      await image.decode();
      fill(slots[i], image, things[thing].about);})).then(() => {enter(2); answer();});};

  // --------------------------------------------------------------------------------------- pictures from sentences
  const seedOf = given =>
    make("input", {type: "number", min: 0, max: 4294967295, step: 1, value: given.seed, inputmode: "numeric"});
  const whole = seed => Math.min(4294967295, Math.max(0, Math.floor(+seed.value || 0)));
  const painter = (root, model, given) => {
    const large = shown(""), small = canvas(SIDE), said = status();
    const reads = [make("div", {className: "mm-read"}), make("div", {className: "mm-read"})];
    const texts = given.texts.map(value =>
      make("input", {value, autocomplete: "off", enterkeyhint: "done"}));
    const share = make("input", {type: "range", min: 0, max: 1, step: .1, value: 0});
    const seed = seedOf(given);
    const draw = inTurn(root, said, async () => {
      const from = performance.now(), words = [];
      for (const text of texts) words.push(await model.ask("read", text.value));
      words.forEach((list, i) => readAloud(reads[i], list));
      if (!words.every(list => list.length)) {said.textContent = "Each sentence needs a word."; return;}
      const mix = +share.value, number = whole(seed);
      const answer = await model.ask("draw", texts.map(text => text.value), mix, number);
      onto(small, answer.pixels);
      showLarge(large, small);
      const parts = texts.map((text, i) => `${Math.round(100 * (i ? mix : 1 - mix))} % “${text.value}”`);
      const what = mix % 1 ? parts.join(", ") : texts[mix].value;
      large.setAttribute("aria-label", `drawn by the model: ${what}`);
      said.textContent = `Drawn in ${seconds(from)}, with the noise of seed ${number}.`;
      share.setAttribute("aria-valuetext", `${Math.round(100 * mix)} % of the second sentence`);});
    texts.forEach(input => {
      input.oninput = later(600, draw);
      input.onkeydown = event => {if (event.key === "Enter") draw();};});
    seed.oninput = later(300, draw);
    share.oninput = draw;
    const another = button("Another seed", () => {seed.value = (+seed.value || 0) + 1; draw();});
    root.append(make("div", {className: "mm-two"}, large, make("div", {className: "mm-side"},
      field("a sentence", texts[0]), reads[0], field("a second sentence, to mix with", texts[1]), reads[1],
      field("from the first sentence to the second", share),
      make("div", {className: "mm-row"}, field("seed of the noise", seed), another), said)));
    draw();};

  // -------------------------------------------------------------------------------- pictures, code by code
  /* Numbers of codes fill the grid, and what the decoder makes of them takes their place, two rows at a time. Then a
     code that is pointed at, or that the slider names, tells what was read for it. */
  const writer = (root, model, given) => {
    const {side, text_len: longest} = model.about.config.tokens, count = side * side, cell = WIDE / side;
    const large = shown(""), small = canvas(SIDE), said = status(), told = status();
    const read = make("div", {className: "mm-read"});
    const page = make("p", {className: "mm-page", "aria-label": "what was read of the sentence"});
    const text = make("input", {value: given.texts[0], autocomplete: "off", enterkeyhint: "done"}), seed = seedOf(given);
    const keep = make("input", {type: "range", min: 0, max: side - 1, step: 1, value: 0});
    const which = make("input", {type: "range", min: 0, max: count, step: 1, value: 0});
    let drawn = null;
    const frame = (pen, place) => {
      const [x, y] = [place % side * cell, Math.floor(place / side) * cell];
      [["#000", 4], ["#fff", 2]].forEach(([colour, width]) => {
        pen.strokeStyle = colour;
        pen.lineWidth = width;
        pen.strokeRect(x + 2, y + 2, cell - 4, cell - 4);});};
    const show = (done, codes) => {                                // so many rows as pixels, below them numbers
      const pen = large.getContext("2d"), colours = getComputedStyle(root);
      showLarge(large, small);
      pen.fillStyle = colours.getPropertyValue("--mm-page");
      pen.fillRect(0, done * cell, WIDE, WIDE);
      pen.fillStyle = colours.getPropertyValue("--mm-soft");
      pen.strokeStyle = colours.getPropertyValue("--mm-edge");
      pen.lineWidth = 1;
      pen.font = "13px sans-serif";
      pen.textAlign = "center";
      pen.textBaseline = "middle";
      for (let i = done * side; i < count; i++) {
        const [x, y] = [i % side * cell, Math.floor(i / side) * cell];
        pen.strokeRect(x + .5, y + .5, cell - 1, cell - 1);
        if (i < codes.length) pen.fillText(codes[i], x + cell / 2, y + cell / 2);}};
    const percent = share => `${Math.round(100 * share)}\u00a0%`;
    const look = () => {                                           // at the code that the slider names, or at none
      const place = which.value - 1, row = Math.floor(place / side) + 1, name = `row ${row}, column ${place % side + 1}`;
      which.setAttribute("aria-valuetext", place < 0 ? "no code" : name);
      page.replaceChildren();
      if (!drawn) return;
      if (place < 0) {
        showLarge(large, small);
        told.textContent = "Point at the picture, or move the slider: what was read for each code.";
        return;}
      const stay = count - drawn.odds.length, code = `Code ${drawn.codes[place]} in ${name}`;
      if (place < stay) {
        showLarge(large, small);
        frame(large.getContext("2d"), place);
        told.textContent = `${code} was there before.`;
        return;}
      const where = drawn.wheres[place - stay], words = drawn.words.slice(0, longest), sum = (a, b) => a + b;
      const padding = where.slice(1 + words.length, 1 + longest).reduce(sum, 0);
      const shares = [where[0], ...words.map((_, i) => where[1 + i]), padding], top = Math.max(...shares);
      const most = Math.max(...shares.slice(1, -1)), best = words[shares.indexOf(most, 1) - 1];
      light(large, small, where.slice(1 + longest));
      frame(large.getContext("2d"), place);
      page.replaceChildren(...["start", ...words, `${longest - words.length} × padding`].flatMap((word, i) => [
        make("span", {style: `--share:${Math.round(100 * shares[i] / top)}%`, title: percent(shares[i])}, word), " "]));
      told.textContent = `${code} had a probability of ${percent(drawn.odds[place - stay])}. Of what was read for it ` +
        `${percent(shares.reduce(sum))} was text, of its words most “${best}” with ${percent(most)}; ` +
        `${percent(1 - shares.reduce(sum))} was codes before it.`;};
    const draw = inTurn(root, said, async () => {
      const from = performance.now(), sentence = text.value, words = await model.ask("read", sentence), number = whole(seed);
      readAloud(read, words);
      if (!words.length) {said.textContent = "The sentence needs a word."; return;}
      const codes = drawn ? drawn.codes.slice(0, keep.value * side) : [], stay = [...codes];
      let done = codes.length / side;
      drawn = null;
      which.value = 0;
      which.disabled = true;
      look();
      told.textContent = "";
      said.textContent = "drawing …";
      show(done, codes);
      const found = await model.run("draw", [sentence, number, stay], part => {
        if (part.code !== undefined) codes.push(part.code);
        if (part.pixels) {
          onto(small, part.pixels);
          done = part.rows || side;}
        show(done, codes);});
      drawn = {...found, words: words.map(one => one.word)};
      which.disabled = false;
      large.setAttribute("aria-label", `drawn by the model: ${sentence}`);
      const nats = drawn.odds.reduce((sum, p) => sum - Math.log(p), 0) / drawn.odds.length;
      keep.setAttribute("aria-valuetext", `${keep.value} of ${side} rows`);
      said.textContent = `Drawn in ${seconds(from)} with seed ${number}: ${drawn.odds.length} codes, each a choice ` +
        `of ${nats.toFixed(2)} nats.`;
      look();});
    text.oninput = later(600, draw);
    text.onkeydown = event => {if (event.key === "Enter") draw();};
    seed.oninput = later(300, draw);
    keep.oninput = later(300, draw);
    which.oninput = look;
    const point = event => {
      const box = large.getBoundingClientRect();
      const [x, y] = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height]
        .map(share => Math.min(side - 1, Math.max(0, Math.floor(share * side))));
      if (!drawn || +which.value === 1 + y * side + x) return;
      which.value = 1 + y * side + x;
      look();};
    large.style.touchAction = "pan-y";
    large.onpointerdown = point;
    large.onpointermove = event => {if (event.pointerType === "mouse") point(event);};
    large.onpointerleave = event => {if (event.pointerType === "mouse" && drawn) {which.value = 0; look();}};
    const another = button("Another seed", () => {seed.value = (+seed.value || 0) + 1; draw();});
    root.append(make("div", {className: "mm-two"}, make("div", {}, large, field("look at a code", which)),
      make("div", {className: "mm-side"}, field("a sentence", text), read,
        make("div", {className: "mm-row"}, field("seed of the draws", seed), another),
        field("rows to keep of this picture, from the top", keep), said, page, told)));
    draw();};

  // ------------------------------------------------------------------------------------------------ words
  /* Typing, the slider and a press of a button ask the same two questions: what is near, and what a : b = c : x
     asks for. */
  const lexicon = (root, model, given) => {
    const {words, icons, across, config: {pictured}} = model.about, said = status();
    const hasPictures = name => words.indexOf(name) < pictured;
    const list = "mm-words-" + document.querySelectorAll("datalist").length;
    const typed = value => make("input", {value, list, autocomplete: "off", autocapitalize: "none", spellcheck: "false",
      enterkeyhint: "done", oninput: later(300, () => answer()),
      onkeydown: event => {if (event.key === "Enter") answer();}});
    const word = typed(given.word), parts = given.analogy.map(typed), read = make("div", {className: "mm-read"});
    const weight = make("b"), share = make("input", {type: "range", min: 0, max: 1, step: .05, value: given.share,
      oninput: () => answer()});
    const near = make("table", {className: "mm-odds", "aria-label": "the nearest words"});
    const fourth = make("table", {className: "mm-odds", "aria-label": "the words that follow"});
    root.style.setProperty("--mm-icons", `url(${icons})`);
    root.style.setProperty("--mm-across", across);
    const icon = name => {
      const i = words.indexOf(name), x = i % across, y = Math.floor(i / across);
      return hasPictures(name) ? make("span", {className: "mm-icon mm-seen", style: `--x:${-x};--y:${-y}`}) :
        make("span", {className: "mm-icon", title: "no pictures"});};
    const rows = found => make("tbody", {}, ...found.words.map((name, i) => make("tr", {}, make("td", {}, icon(name)),
      make("th", {scope: "row"}, button(name, () => {word.value = name; answer();})),
      make("td", {style: "width:36%"}, make("span", {className: "mm-odd",
        style: `width:${100 * Math.max(0, found.cosines[i])}%`})),
      make("td", {}, found.cosines[i].toFixed(2)))));
    const answer = inTurn(root, said, async () => {
      const from = performance.now(), alpha = +share.value, asked = [];
      const text = Math.round(100 * alpha ** 2 / (alpha ** 2 + (1 - alpha) ** 2));               // eq:fusion-weight
      weight.textContent = `α = ${alpha.toFixed(2)}`;
      share.setAttribute("aria-valuetext", `${weight.textContent}, of a cosine ${text} % are of the text`);
      for (const {value} of [word, ...parts])
        asked.push((await model.ask("read", value))[0] || {word: value.trim() || "(nothing)", known: false});
      if (asked.every(one => one.known)) read.replaceChildren(); else readAloud(read, asked);
      const ask = async (place, call, these, k) => {
        const can = these.every(one => one.known && (alpha > 0 || hasPictures(one.word)));
        const found = can ? await model.ask(call, ...these.map(one => one.word), alpha, k) : {words: []};
        place.replaceChildren(rows(found));
        return found.words[0];};
      const [{word: name, known}, ...three] = asked, best = await ask(near, "neighbours", asked.slice(0, 1), 7);
      await ask(fourth, "analogy", three, 4);
      said.textContent = best ? `Nearest to ${name}: ${best}. With α = ${alpha.toFixed(2)}, ${text} % of a cosine are of the ` +
        `text and ${100 - text} % of pictures. Answered after ${seconds(from)}.` :
        `Answered: ${known ? `${name} has no pictures; with α above 0 its text speaks` : `${name} was never read`}.`;});
    const example = three => button(`${three[0]} : ${three[1]} = ${three[2]} : ?`, () => {
      parts.forEach((input, i) => {input.value = three[i];});
      answer();});
    const [a, b, c] = parts, tries = [given.analogy, ["dog", "puppy", "cat"], ["grief", "sad", "joy"]].map(example);
    root.append(make("datalist", {id: list}, ...[...words].sort().map(value => make("option", {value}))),
      make("label", {className: "mm-field"}, "pictures alone (0) to text alone (1): ", weight, share),
      make("div", {className: "mm-two"}, make("div", {className: "mm-side"}, field("a word", word), near),
        make("div", {className: "mm-side"}, make("div", {className: "mm-row"}, field("as this word", a),
          field("is to this,", b), field("so is this", c)), make("p", {className: "mm-soft"}, "to"), fourth,
          make("div", {className: "mm-row mm-tries"}, ...tries))), said, read);
    answer();};

  const kinds = {"clip-mini-resnet": classifier, "captioner-grid": captioner, attngan: painter, dfgan: painter,
    dalle: writer, "word-space": lexicon, vilbert: questioner, flamingo: namer};
  const show = (root, name, model) => {
    const inside = make("div", {className: "mm-widget"});
    root.replaceChildren(inside);
    kinds[name](inside, model, JSON.parse(root.dataset.given));};
  return {start, show};
})();
