// A picture is enlarged by a click or by Enter; arrows go on to the pictures beside it and to other rows.
(() => {
  const rows = () => [...document.querySelectorAll(".row")].filter((row) => !row.hidden);
  // Of a row: as its table has them, where the stage of the script shows some of these again.
  const picturesOf = (row) =>
    [...row.querySelectorAll("img")].filter((picture) => !picture.closest(".stage, .over") && picture.alt);
  if (!rows().some((row) => picturesOf(row).length)) return;

  const make = (tag, name, ...children) => {
    const element = document.createElement(tag);
    if (name) element.className = name;
    element.append(...children);
    return element;
  };
  const button = (name, label, sign, act) => {
    const made = make("button", name, sign);
    made.type = "button";
    made.title = label;
    made.setAttribute("aria-label", label);
    made.addEventListener("click", act);
    return made;
  };
  const picture = make("img");
  const key = make("strong", "mono");
  const what = make("span");
  const place = make("span", "count");
  const caption = make("p", "caption", key, what, place);
  caption.setAttribute("aria-live", "polite");
  const box = make(
    "dialog",
    "enlarged",
    picture,
    caption,
    button("before", "Previous picture", "‹", () => beside(-1)),
    button("after", "Next picture", "›", () => beside(1)),
    button("close", "Close", "×", () => box.close())
  );
  box.setAttribute("aria-label", "Enlarged picture");
  box.setAttribute("autofocus", ""); // itself, not its first button
  document.body.append(box);
  let shown = null;

  function show(chosen) {
    shown = chosen;
    const row = chosen.closest(".row");
    const all = picturesOf(row);
    picture.src = chosen.src;
    picture.alt = chosen.alt;
    picture.width = chosen.naturalWidth || chosen.width;
    picture.height = chosen.naturalHeight || chosen.height;
    // As large as the window allows; the proportions are the picture's own.
    picture.style.setProperty("--ratio", picture.width / picture.height);
    key.textContent = row.querySelector("h3, h4").textContent;
    what.textContent = [chosen.alt, ...numbersOf(chosen)].join(" · ");
    place.textContent = `${all.indexOf(chosen) + 1} of ${all.length}`;
    if (!box.open) box.showModal();
  }

  // The metrics in the column of a picture.
  function numbersOf(chosen) {
    const cell = chosen.closest("td");
    const column = cell ? [...cell.parentElement.children].indexOf(cell) : 0;
    if (column < 1) return [];
    return [...cell.closest("table").querySelectorAll(".line")].map((line) => {
      const name = line.querySelector("th").firstChild.textContent.trim();
      return `${name} ${line.children[column].textContent.trim()}`;
    });
  }

  function beside(by) {
    const all = picturesOf(shown.closest(".row"));
    show(all[(all.indexOf(shown) + by + all.length) % all.length]);
  }

  // The same picture of the next row that has any.
  function other(by) {
    const here = shown.closest(".row");
    const all = rows().filter((row) => row === here || picturesOf(row).length);
    const row = all[all.indexOf(here) + by];
    if (!row) return;
    const pictures = picturesOf(row);
    show(pictures.find((one) => one.alt === shown.alt) ?? pictures[0]);
  }

  const moves = {
    ArrowLeft: () => beside(-1),
    ArrowRight: () => beside(1),
    ArrowUp: () => other(-1),
    ArrowDown: () => other(1),
  };
  box.addEventListener("keydown", (event) => {
    if (!moves[event.key]) return;
    event.preventDefault();
    moves[event.key]();
  });
  // A click beside the picture closes, as people expect.
  box.addEventListener("click", (event) => {
    if (event.target === box || event.target === picture) box.close();
  });

  // What the stage shows is one of the pictures of its row, or the average.
  function chosenBy(target) {
    const row = target.closest(".row");
    const clicked = target.closest(".photo")?.querySelector("img") ?? target.closest(".pair")?.querySelector("img");
    const from = clicked ?? (target.matches("img") ? target : null);
    if (!row || !from) return null;
    return picturesOf(row).find((one) => one.src === from.src) ?? null;
  }
  document.addEventListener("click", (event) => {
    const chosen = event.target.closest(".enlarged") ? null : chosenBy(event.target);
    if (chosen) show(chosen);
  });
  document.addEventListener("keydown", (event) => {
    if (!["Enter", " "].includes(event.key) || !event.target.matches("img")) return;
    const chosen = chosenBy(event.target);
    if (!chosen) return;
    event.preventDefault(); // the key is not for the button that comes into focus
    show(chosen);
  });
  document.querySelectorAll(".row img").forEach((one) => {
    if (!one.alt) return;
    one.tabIndex = 0;
    one.setAttribute("role", "button");
    one.setAttribute("aria-haspopup", "dialog");
    one.title = "Enlarge";
  });
})();
