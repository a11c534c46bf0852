// Rows are found by what is written about them, and opened by a link to their key.
(() => {
  const rows = [...document.querySelectorAll(".row")];
  const field = document.getElementById("filter");
  const said = document.getElementById("found");
  if (!rows.length) return;

  function labelsOf(row) {
    const pairs = [...row.querySelectorAll(".labels div")].map((pair) =>
      ["dt", "dd"].map((tag) => pair.querySelector(tag).textContent.toLowerCase())
    );
    return new Map(pairs);
  }
  const known = new Map(
    rows.map((row) => {
      const labels = labelsOf(row);
      const about = [...row.querySelectorAll("h3, h4, .place")].map((e) => e.textContent);
      const words = [...about, row.dataset.status ?? "", ...[...labels].map((pair) => pair.join("="))];
      return [row, { labels, text: words.join("\n").toLowerCase() }];
    })
  );

  // A word is a part of what is known of a row, or compares one of its labels with a number.
  function fits({ labels, text }, word) {
    const [, name, sign, number] = word.match(/^(.+?)(<=|>=|<|>|=)(-?[\d.]+)$/) ?? [];
    if (name === undefined || !labels.has(name)) return text.includes(word);
    const [value, bound] = [Number(labels.get(name)), Number(number)];
    if (Number.isNaN(value)) return text.includes(word);
    if (sign === "=") return value === bound;
    return (sign[0] === "<" ? value < bound : value > bound) || (sign.length > 1 && value === bound);
  }

  function filter() {
    const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const row of rows) row.hidden = !words.every((word) => fits(known.get(row), word));
    document.querySelectorAll(".badge").forEach((badge) => {
      badge.hidden = ![...badge.nextElementSibling.children].some((row) => !row.hidden);
    });
    const count = (of) => of.filter((row) => !row.hidden).length;
    const cards = rows.filter((row) => row.matches(".card"));
    const failures = rows.filter((row) => !row.matches(".card"));
    const parts = [`${count(cards)} of ${cards.length}`];
    if (failures.length) parts.push(`${count(failures)} of ${failures.length} failures`);
    said.textContent = words.length ? parts.join(", ") : "";
  }
  field?.addEventListener("input", filter);
  field?.form.addEventListener("submit", (event) => event.preventDefault());

  function open() {
    let name = location.hash.slice(1);
    try {
      name = decodeURIComponent(name);
    } catch {
      // A key with a lone % that somebody typed: it is taken as it is.
    }
    const row = document.getElementById(name) ?? document.getElementById(`key=${name}`);
    if (!row?.matches(".row")) return;
    if (row.hidden) {
      field.value = "";
      filter();
    }
    for (const other of rows) other.classList.toggle("linked", other === row);
    const details = row.querySelector("details");
    if (details) details.open = true;
    row.scrollIntoView({ block: "start" });
  }
  window.addEventListener("hashchange", open);
  open();
})();
