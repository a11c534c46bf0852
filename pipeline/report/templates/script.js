"use strict";
// The page is whole without this: it adds the slider of each image, sorting, and the difference.
(() => {
  document.documentElement.classList.add("scripted");

  const cards = document.getElementById("cards");
  if (!cards || !document.getElementById("everyone")) return; // a page of edits has none of it
  const average = document.getElementById("average");
  const wordOf = (step) => (step ? `step ${step}` : "the average");

  // One image: the crop, one picture that its slider changes, and the numbers of that step.
  function stage(card) {
    const crop = card.querySelector(".crop img");
    const steps = [...card.querySelectorAll(".step")]
      .filter((cell) => cell.querySelector("img"))
      .map((cell) => ({ step: Number(cell.dataset.step), src: cell.querySelector("img").src }));
    if (average && steps.length) steps.unshift({ step: 0, src: average.src });
    card.querySelector("details").open = false;
    const slider = card.querySelector(".slider");
    if (!steps.length) {
      card.querySelector(".stage").remove();
      slider.remove();
      return null;
    }
    const now = new Image();
    card.querySelector(".now .frame").append(now);
    const over = new Image();
    if (crop) {
      const under = new Image();
      under.src = crop.src;
      under.alt = crop.alt;
      over.alt = "";
      over.className = "over";
      card.querySelector(".pair").append(under, over);
    } else {
      card.querySelector(".against").hidden = true;
    }
    const values = numbers(card);
    function show(index) {
      const { step, src } = steps[index];
      slider.value = index;
      slider.setAttribute("aria-valuetext", wordOf(step));
      now.src = over.src = src;
      now.alt = step ? `Reconstruction after ${wordOf(step)}` : average.alt;
      card.querySelector("output").textContent = wordOf(step);
      card.dataset.step = step;
      values(step);
    }
    slider.max = steps.length - 1;
    slider.hidden = steps.length < 2;
    slider.addEventListener("input", () => show(Number(slider.value)));
    show(steps.length - 1);
    // The nearest step before it that has a picture, or the first.
    return (step) => show(Math.max(0, steps.findLastIndex((known) => known.step <= step)));
  }

  // The metrics of an image under its slider, taken from its table.
  function numbers(card) {
    const list = card.querySelector(".values");
    const lines = [...card.querySelectorAll(".line")].map((line) => {
      const entry = document.createElement("div");
      const [term, value] = ["dt", "dd"].map((tag) => document.createElement(tag));
      term.textContent = line.querySelector("th").textContent;
      entry.append(term, value);
      list.append(entry);
      return { value, cells: line.querySelectorAll("td") };
    });
    return (step) => {
      for (const { value, cells } of lines) {
        const cell = cells[step - 1];
        value.textContent = cell ? cell.textContent : "–";
        value.className = cell ? cell.className : "";
      }
    };
  }

  const moves = [...cards.children].map(stage).filter((move) => move);

  const everyone = document.getElementById("everyone");
  if (!average) everyone.min = 1;
  const say = () => {
    const word = wordOf(Number(everyone.value));
    document.querySelector(".everyone output").textContent = word;
    everyone.setAttribute("aria-valuetext", word);
  };
  everyone.addEventListener("input", () => {
    moves.forEach((move) => move(Number(everyone.value)));
    say();
  });
  say();

  document.querySelectorAll("[name=view]").forEach((view) => {
    view.addEventListener("change", () => {
      cards.classList.toggle("difference", view.value === "difference");
    });
  });

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
})();
