// The shortlist: hearts on products, kept in this browser; the list's page has its ids in its URL.
"use strict";
(() => {
  const NAME = "fashionclip-shortlist";
  const byId = (id) => document.getElementById(id);
  let own = [];
  const read = () => {
    try { own = JSON.parse(localStorage.getItem(NAME) ?? "[]").filter((id) => typeof id === "string"); } catch { own = []; }
  };
  const write = (ids) => {
    own = ids;
    try { localStorage.setItem(NAME, JSON.stringify(own)); } catch { /* it lasts as long as the page */ }
    show();
  };
  const urlOf = (ids) => (ids.length ? `/shortlist?${ids.map((id) => `ids=${encodeURIComponent(id)}`).join("&")}` : "/shortlist");

  function show() {
    byId("shortlist").href = urlOf(own);
    byId("shortlist-count").textContent = own.length || "";
    for (const heart of document.querySelectorAll("[data-heart]")) {
      heart.setAttribute("aria-pressed", own.includes(heart.dataset.heart));
    }
  }
  addEventListener("click", (event) => {
    const heart = event.target.closest?.("[data-heart]");
    if (heart) {
      const id = heart.dataset.heart;
      write(own.includes(id) ? own.filter((one) => one !== id) : [...own, id]);
    }
    const removed = event.target.closest?.("[data-remove]")?.dataset.remove;
    if (removed) write(own.filter((one) => one !== removed));
    if (event.target.closest?.("#clear")) write([]);
    if (event.target.closest?.("#copy")) copy(event.target);
  });
  async function copy(button) {
    let said = "Copied";
    try { await navigator.clipboard.writeText(location.href); } catch { said = "Copy the address above"; }
    button.textContent = said;
    byId("announcement").textContent = said;
  }
  addEventListener("storage", (event) => { if (event.key === NAME) { read(); show(); } });
  addEventListener("shown", show);  // page.js has put new products in
  read();
  if (byId("listed") && !location.search && own.length) location.replace(urlOf(own));
  show();
})();
