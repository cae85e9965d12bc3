/* Where a page has a place for a model of the book (mmlearn.figures.live), this puts a button there. Nothing else is
   loaded before the button is pressed: then come the engine (nn.js), the models (models.js), what one sees
   (widgets.js), and the weights, as scripts, so that a page opened from a disk works too. */
window.mmlearnLive = window.mmlearnLive || (() => {
  const folder = document.currentScript.src.replace(/[^/]*$/, "");
  const abouts = {}, pieces = {}, asked = {}, opened = {};

  /* A script of this folder, once. */
  const script = path => asked[path] = asked[path] || new Promise((done, failed) => {
    const tag = document.createElement("script");
    tag.src = folder + path;
    tag.onload = done;
    tag.onerror = () => {delete asked[path]; tag.remove(); failed(new Error(`${path} could not be loaded`));};
    document.head.append(tag);});

  const open = async (name, progress) => {
    await Promise.all(["nn.js", "models.js", "widgets.js", "weights/scenes.js", `weights/${name}.js`].map(script));
    const {files, ...about} = abouts[name];
    let there = 0;
    pieces[name] = pieces[name] || [];
    await Promise.all(files.map(file => script("weights/" + file).then(() => progress(++there / files.length))));
    const parts = pieces[name].map(text => Uint8Array.from(atob(text), letter => letter.charCodeAt(0)));
    const model = await mmlearnWidgets.start(name, about, await new Blob(parts).arrayBuffer());
    delete pieces[name];
    return model;};

  const place = root => {
    const name = root.dataset.live, size = (root.dataset.bytes / 1e6).toFixed(1);
    const bar = document.createElement("div"), button = document.createElement("button");
    bar.className = "mm-bar";
    button.type = "button";
    button.className = "mm-run";
    button.textContent = `Run the model here (loads ${size} MB)`;
    bar.append(button);
    root.querySelectorAll(".mm-note").forEach(note => note.remove());     // it says that there would be a button
    root.append(bar);
    root.dataset.on = 1;
    button.onclick = async () => {
      const shown = document.createElement("progress"), said = document.createElement("span");
      shown.max = 1; shown.value = 0;
      shown.setAttribute("aria-label", "weights loaded");
      said.setAttribute("role", "status");
      said.textContent = "loading …";
      bar.replaceChildren(shown, said);
      try {
        opened[name] = opened[name] || open(name, share => {
          for (const p of document.querySelectorAll(`[data-live="${name}"] progress`)) p.value = share;});
        const model = await opened[name];
        mmlearnWidgets.show(root, name, model);
      } catch (error) {
        delete opened[name];
        said.textContent = `${error.message}.`;
        button.textContent = "Try again";
        bar.replaceChildren(said, button);}};};

  const places = () => document.querySelectorAll("[data-live]:not([data-on])").forEach(place);
  if (document.readyState === "loading") addEventListener("DOMContentLoaded", places); else places();
  return {
    about: (name, about) => {abouts[name] = about;},
    piece: (name, i, text) => {(pieces[name] = pieces[name] || [])[i] = text;},
    scenes: list => {mmlearnLive.list = list;},
    things: found => {mmlearnLive.found = found;},
    script, places};
})();
