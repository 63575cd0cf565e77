/* The script of the doctor's page: filters, marks, keys. Marks are kept in this browser until saved. */
"use strict";
const cards = [...document.querySelectorAll(".finding")];
const earlier = JSON.parse(document.getElementById("fine").textContent);
const place = "fashionclip-doctor " + document.title;
const marks = new Map();
const elsewhere = new Set(); // marked before, of findings that this page does not show
const done = [];
let kind = "";
let at = null;

const byId = (id) => document.getElementById(id);

function keep() {
  try {
    localStorage.setItem(place, JSON.stringify([...elsewhere, ...marks.keys()]));
  } catch {
    /* a page opened from a disk may have no storage: the marks last until it is closed */
  }
}

function mark(card, isFine) {
  if (isFine) marks.set(card.dataset.key, card);
  else marks.delete(card.dataset.key);
  card.classList.toggle("is-fine", isFine);
  const button = card.querySelector(".mark");
  button.setAttribute("aria-pressed", String(isFine));
  button.textContent = isFine ? "Fine ✓" : "Fine";
}

function fits(card) {
  const words = byId("words").value.trim().toLowerCase();
  return (!kind || card.dataset.kind === kind)
    && Number(card.dataset.sure) >= Number(byId("least").value)
    && !(byId("open").checked && marks.has(card.dataset.key))
    && (!words || card.textContent.toLowerCase().includes(words));
}

function show() {
  let n = 0;
  for (const card of cards) {
    card.hidden = !fits(card);
    n += card.hidden ? 0 : 1;
  }
  byId("empty").hidden = n > 0;
  byId("count").textContent = `${n} shown · ${marks.size} marked as fine`;
  byId("all").disabled = n === 0;
}

function go(step) {
  const shown = cards.filter((card) => !card.hidden);
  if (!shown.length) return;
  const now = shown.indexOf(at);
  at = shown[Math.min(shown.length - 1, Math.max(0, now < 0 ? 0 : now + step))];
  at.focus({ preventScroll: true });
  at.scrollIntoView({ block: "nearest" });
}

function toggle(card) {
  const isFine = !marks.has(card.dataset.key);
  mark(card, isFine);
  done.push([[card, !isFine]]);
  keep();
}

function undo() {
  for (const [card, wasFine] of done.pop() ?? []) mark(card, wasFine);
  keep();
  show();
}

function save() {
  const fine = [...marks.values()].map((card) => ({
    key: card.dataset.key, kind: card.dataset.kind, products: JSON.parse(card.dataset.products),
  }));
  const others = new Set([...earlier, ...elsewhere].filter((key) => !marks.has(key)));
  const kept = [...others].map((key) => ({ key }));
  const text = JSON.stringify({ fine: [...kept, ...fine] }, null, 1) + "\n";
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  link.download = "fine.json";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

byId("list").addEventListener("click", (event) => {
  const card = event.target.closest(".finding");
  if (!card) return;
  at = card;
  if (event.target.closest(".mark")) {
    toggle(card);
    show();
  }
});
for (const button of document.querySelectorAll("nav button")) {
  button.addEventListener("click", () => {
    kind = button.dataset.kind;
    for (const other of document.querySelectorAll("nav button")) {
      other.setAttribute("aria-pressed", String(other === button));
    }
    at = null;
    show();
    window.scrollTo({ top: 0 });
  });
}
for (const id of ["words", "least", "open"]) byId(id).addEventListener("input", show);
byId("save").addEventListener("click", save);
byId("all").addEventListener("click", () => {
  const shown = cards.filter((card) => !card.hidden && !marks.has(card.dataset.key));
  done.push(shown.map((card) => [card, false]));
  for (const card of shown) mark(card, true);
  keep();
  show();
});
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, select")) return;
  const key = event.key.toLowerCase();
  if (key === "j") go(1);
  else if (key === "k") go(-1);
  else if (key === "u") undo();
  else if (key === "s") save();
  else if (key === "f" && at && !at.hidden) {
    const card = at;
    go(1);
    toggle(card);
    show();
  }
});
try {
  const kept = new Set(JSON.parse(localStorage.getItem(place) ?? "[]"));
  for (const card of cards) if (kept.delete(card.dataset.key)) mark(card, true);
  for (const key of kept) elsewhere.add(key);
} catch {
  /* no storage, no marks */
}
show();
