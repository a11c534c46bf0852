"use strict";
// The page is whole without this: it adds sorting, and holding the crop against a reconstruction.
(() => {
  document.documentElement.classList.add("scripted");

  const cards = document.getElementById("cards");
  if (!cards) return;

  const sort = document.getElementById("sort");
  sort.addEventListener("change", () => {
    const option = sort.selectedOptions[0];
    const sign = option.dataset.ascending ? 1 : -1;
    const value = (card) => Number(card.getAttribute(`data-${option.value}`) ?? NaN);
    const order = (a, b) => {
      const [x, y] = [value(a), value(b)];
      // Rows that were not measured come last, whichever way the others go.
      if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y);
      return sign * (x - y);
    };
    cards.append(...[...cards.children].sort(order));
    document.getElementById("sorted").textContent = `Sorted by ${option.text}`;
  });

  for (const card of cards.children) {
    const crop = card.querySelector(".crop img");
    if (!crop) continue;
    card.querySelectorAll(".step img").forEach((image) => {
      const over = new Image(image.width, image.height);
      over.src = crop.src;
      over.alt = "";
      over.className = "over";
      const tag = document.createElement("span");
      tag.className = "tag";
      tag.textContent = cards.dataset.seen;
      const button = document.createElement("button");
      button.type = "button";
      button.className = "hold";
      button.title = `Hold the ${cards.dataset.seen} against it`;
      button.setAttribute("aria-pressed", "false");
      image.replaceWith(button);
      button.append(image, over, tag);
      button.addEventListener("click", () => {
        button.setAttribute("aria-pressed", String(button.getAttribute("aria-pressed") !== "true"));
      });
    });
  }
})();
