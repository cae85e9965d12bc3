/* A formula inside a sentence that is wider than a phone scrolls by itself; all others stand on the line as drawn. */
window.addEventListener("load", () => {
  const drawn = window.MathJax && MathJax.startup ? MathJax.startup.promise : Promise.resolve();
  const mark = () => {
    const column = document.querySelector("article.bd-article");
    if (!column) return;
    for (const formula of column.querySelectorAll("span.math mjx-container")) {
      formula.classList.remove("wide");
      const room = formula.closest("p, li, td, th, summary, dd") || column;
      if (formula.getBoundingClientRect().width > room.clientWidth) formula.classList.add("wide");
    }
  };
  drawn.then(() => { mark(); window.addEventListener("resize", mark); });
});

/* The contents of a long page list 1.2 and 1.2.1; headings without a number show in the section being read. */
window.addEventListener("DOMContentLoaded", () => {
  const entries = [...document.querySelectorAll(".page-toc li.toc-h3")];
  const unnumbered = entries.filter((entry) => !/^\s*\d+\.\d/.test(entry.textContent));
  unnumbered.forEach((entry) => entry.classList.add("unnumbered"));
  if (unnumbered.length > 12) document.querySelectorAll(".page-toc").forEach((toc) => toc.classList.add("toc-long"));
});
