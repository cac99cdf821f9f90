// Draws every chart of the page in the colours of the reader's light or dark setting, and again when that changes.
(() => {
  const draw = () => {
    const page = getComputedStyle(document.documentElement);
    for (const place of document.querySelectorAll("[data-figure]")) {
      const figure = JSON.parse(
        place.dataset.figure.replace(/"(--[a-z]+)"/g, (_, name) => JSON.stringify(page.getPropertyValue(name).trim())));
      figure.layout.font.family = getComputedStyle(place).fontFamily;
      Plotly.react(place, figure.data, figure.layout, { displayModeBar: false, responsive: true });
    }
  };
  draw();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
})();
