// Inside pictures: boxes that can be clicked, garments of a picture on the search page, words on a
// product's picture without a page load. Links and forms work without this script too.
"use strict";
(() => {
  const documentOf = async (url, signal) => {
    const answer = await fetch(url, { signal, headers: { Accept: "text/html" } });
    return new DOMParser().parseFromString(await answer.text(), "text/html");
  };

  // --- a click on a box is one on its garment's link
  addEventListener("click", (event) => {
    const box = event.target.closest?.(".photo g[data-garment]");
    box?.closest(".photo-view").querySelector(`[data-choice="${box.dataset.garment}"]`)?.click();
  });

  // --- the garments of the picture that is searched by, once the products are there
  let looking = null;
  async function lookInside() {
    const place = document.querySelector(".in-photo[data-photo]");
    looking?.abort();
    if (!place) return;
    looking = new AbortController();
    const next = await documentOf(place.dataset.photo, looking.signal).catch(() => null);
    const found = next?.querySelector(".photo-view");
    if (!place.isConnected || !found) return;  // the link stays
    if (!found.querySelector("[data-choice]")) {
      place.querySelector(".photo-links").textContent = "No garment stands out in it.";
      return;
    }
    for (const one of found.querySelectorAll(".chosen, [aria-current]")) {
      one.classList.remove("chosen");
      one.removeAttribute("aria-current");
    }
    found.querySelector(".photo-links")?.remove();
    for (const link of found.querySelectorAll("[data-choice]")) link.dataset.top = "";
    for (const part of [".photo", ".photo-choices"]) place.querySelector(part).replaceWith(found.querySelector(part));
  }
  addEventListener("shown", lookInside);

  // --- a word on a product's picture
  async function find(url) {
    const product = document.querySelector(".product");
    product.classList.add("is-finding");
    const next = await documentOf(url).catch(() => null);
    product.classList.remove("is-finding");
    const [picture, section] = [".product-picture > .shot", "#find"].map((one) => next?.querySelector(one));
    if (!picture || !section) { location.assign(url); return; }
    const focused = document.activeElement?.id;
    const isChip = document.activeElement?.matches(".find .chip");
    document.querySelector(".product-picture > .shot").replaceWith(picture);
    const answer = section.querySelector(".find-answer");
    const words = answer.textContent;
    answer.textContent = "";
    document.querySelector("#find").replaceWith(section);
    setTimeout(() => { answer.textContent = words; }, 60);  // a change of it is read out
    history.replaceState(history.state, "", url);
    if (focused === "find-word") document.getElementById(focused).focus();
    else if (isChip) section.querySelector(".chip[aria-current], .chip")?.focus();
  }
  addEventListener("submit", (event) => {
    if (!event.target.matches(".find-form")) return;
    event.preventDefault();
    const url = new URL(event.target.action);
    url.search = new URLSearchParams(new FormData(event.target));
    find(url.href);
  });
  addEventListener("click", (event) => {
    const link = event.target.closest?.(".find a");
    if (!link || event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    link.focus();
    find(link.href);
  });
  lookInside();
})();
