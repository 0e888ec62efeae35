// The page's own controls: which rung is looked at, the theme, copying, printing.
// journey.js and charts.js listen to the events "rung", "theme" and "place" of the
// document.

const root = document.documentElement;
const tell = (name, detail) => document.dispatchEvent(new CustomEvent(name, { detail }));

function chooseRung(name) {
  root.dataset.rung = name;
  for (const article of document.querySelectorAll("article[data-rung]"))
    article.hidden = article.dataset.rung !== name;
  for (const step of document.querySelectorAll(".steps [data-rung]"))
    step.classList.toggle("on", step.dataset.rung === name);
  for (const column of document.querySelectorAll("#numbers thead th"))
    markColumn(column, column.textContent === name);
  tell("rung", name);
}

function markColumn(head, on) {
  for (const row of head.closest("table").rows)
    row.cells[head.cellIndex]?.classList.toggle("on", on);
}

const rungs = [...document.querySelectorAll('input[name="rung"]')];
for (const input of rungs)
  input.addEventListener("change", () => {
    chooseRung(input.value);
    input.parentElement.scrollIntoView({ block: "nearest", inline: "center" });
  });

// A crossing of the picture and its row in the table are marked together.
document.addEventListener("place", ({ detail: place }) => {
  for (const dot of document.querySelectorAll(".dot[data-place]"))
    dot.closest("tr").classList.toggle("on", dot.dataset.place === place);
});
for (const dot of document.querySelectorAll(".dot[data-place]"))
  dot.closest("tr").addEventListener("pointerenter", () => tell("place", dot.dataset.place));

// ---- theme: the system's, until one is chosen ----
const dark = matchMedia("(prefers-color-scheme: dark)");
const button = document.getElementById("theme");

function showTheme() {
  const is = root.dataset.theme ?? (dark.matches ? "dark" : "light");
  const other = is === "dark" ? "light" : "dark";
  button.textContent = other === "dark" ? "☾ dark" : "☀ light";
  button.setAttribute("aria-label", `Change to the ${other} theme`);
  button.value = other;
  tell("theme");
}
button.addEventListener("click", () => {
  root.dataset.theme = button.value;
  showTheme();
});
dark.addEventListener("change", showTheme);

// ---- copying and printing ----
const copy = document.getElementById("copy");
copy.addEventListener("click", () => {
  getSelection().selectAllChildren(document.getElementById("command"));
  copy.textContent = document.execCommand("copy") ? "Copied" : "Selected: press Ctrl+C";
});

matchMedia("print").addEventListener("change", () => tell("theme"));
addEventListener("beforeprint", () => {
  for (const details of document.querySelectorAll("details")) details.open = true;
});

const chosen = rungs.find((input) => input.checked);
if (chosen) chooseRung(chosen.value);
showTheme();
