"use strict";
// The page is whole without this: it adds sorting, and the difference to the crop.
(() => {
  document.documentElement.classList.add("scripted");

  const cards = document.getElementById("cards");
  if (!cards) return;

  const metric = document.getElementById("metric");
  const order = document.getElementById("order");
  const values = new Map([...cards.children].map((card) => [card, JSON.parse(card.dataset.values)]));

  // What a card is sorted by, the largest first; NaN where a run was not measured.
  function rank(of) {
    if (of.some((value) => value === null)) return NaN;
    const sign = metric.selectedOptions[0].dataset.higher ? 1 : -1;
    const mean = of.reduce((sum, value) => sum + value, 0) / of.length;
    const gained = sign * (of[order.selectedOptions[0].dataset.run ?? 0] - of[0]);
    const by = {
      differ: Math.max(...of) - Math.min(...of),
      worst: -sign * mean,
      best: sign * mean,
      gain: gained,
      loss: -gained,
    };
    return by[order.value];
  }

  function sort() {
    const ranks = new Map([...values].map(([card, of]) => [card, rank(of[metric.value])]));
    const larger = (a, b) => {
      const [x, y] = [ranks.get(a), ranks.get(b)];
      if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y);
      return y - x;
    };
    cards.append(...[...cards.children].sort(larger));
    const said = `${metric.selectedOptions[0].text}, ${order.selectedOptions[0].text}`;
    document.getElementById("sorted").textContent = `Sorted by ${said}`;
  }
  metric.addEventListener("change", sort);
  order.addEventListener("change", sort);

  for (const card of cards.children) {
    const crop = card.querySelector(".crop img");
    if (!crop) continue;
    card.querySelectorAll(".pair").forEach((pair) => {
      const over = new Image();
      over.src = crop.src;
      over.alt = "";
      over.className = "over";
      pair.append(over);
    });
  }
  document.querySelectorAll("[name=view]").forEach((view) => {
    view.addEventListener("change", () => {
      cards.classList.toggle("difference", view.value === "difference");
    });
  });
})();
