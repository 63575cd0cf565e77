// What the page can do beyond links and forms: take pictures, and change results without a blink.
// Everything here is an addition: without it every link and form goes where it goes with it.
"use strict";
(() => {
  const root = document.documentElement;
  const byId = (id) => document.getElementById(id);
  const say = (text) => { byId("said").textContent = ""; setTimeout(() => { byId("said").textContent = text; }, 60); };
  root.classList.add("js");

  // --- the same address, fetched; its main part and the picture in the bar are put in place
  let waiting = null;
  async function go(url, { push = true, top = false, y = null } = {}) {
    waiting?.abort();
    waiting = new AbortController();
    const mine = waiting;
    document.body.classList.add("is-waiting");
    let text;
    try {
      const answer = await fetch(url, { signal: mine.signal, headers: { Accept: "text/html" } });
      if (answer.redirected || !answer.headers.get("Content-Type")?.startsWith("text/html")) throw new Error("elsewhere");
      text = await answer.text();
    } catch (error) {
      if (error.name !== "AbortError") location.assign(url);
      return;
    }
    if (mine !== waiting) return;
    const next = new DOMParser().parseFromString(text, "text/html");
    if (!next.getElementById("main") || !next.getElementById("results")) { location.assign(url); return; }
    if (push) {
      history.replaceState({ y: scrollY }, "");
      history.pushState({ y: 0 }, "", url);
    }
    put(next);
    document.body.classList.remove("is-waiting");
    if (top) byId("main").scrollIntoView();
    if (y !== null) scrollTo(0, y);
  }

  function put(next) {
    const focus = document.activeElement?.id;
    const label = document.activeElement?.getAttribute?.("aria-label");
    const drawer = byId("filters");
    const isOpen = drawer?.matches(":popover-open");
    const scrolled = drawer?.scrollTop;
    const folds = new Map([...document.querySelectorAll("details[id]")].map((d) => [d.querySelector("summary").textContent + d.id[0], d.open]));
    const typed = byId("q");
    if (focus !== "q" || isSent) typed.value = next.getElementById("q").value;
    isSent = false;
    document.title = next.title;
    byId("picked").replaceWith(next.getElementById("picked"));
    byId("main").replaceWith(next.getElementById("main"));
    for (const fold of document.querySelectorAll("details[id]")) {
      fold.open = folds.get(fold.querySelector("summary").textContent + fold.id[0]) || fold.open;
    }
    if (isOpen) { byId("filters").showPopover(); byId("filters").scrollTop = scrolled; }
    if (focus && document.activeElement?.id !== focus) byId(focus)?.focus({ preventScroll: true });
    else if (label) byId("main").focus({ preventScroll: true });
    show();
    say(`${byId("found").textContent}: ${byId("count").textContent}`);
  }

  let isSent = false;
  const searchUrl = () => {
    const query = new URLSearchParams();
    for (const [name, value] of new FormData(byId("search"))) if (value.trim()) query.append(name, value.trim());
    const text = query.toString();
    return text ? `/?${text}` : "/";
  };
  const isSwapped = () => Boolean(byId("results"));
  addEventListener("submit", (event) => {
    if (event.target.id !== "search" || !isSwapped()) return;
    event.preventDefault();
    isSent = true;
    go(searchUrl(), { top: true });
  });
  addEventListener("change", (event) => {
    const field = event.target;
    if (field.form?.id !== "search" || field.id === "q" || !isSwapped()) return;
    if (field.checkValidity()) go(searchUrl());
  });
  addEventListener("click", (event) => {
    const link = event.target.closest?.("a[data-swap], #picked a");
    if (!link || !isSwapped() || event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    isSent = true;
    go(link.href, { top: link.matches("[data-top], .tune a, .tiles a") });
  });
  addEventListener("popstate", (event) => {
    if (!isSwapped()) return;
    isSent = true;
    go(location.href, { push: false, y: event.state?.y ?? 0 });
  });
  addEventListener("keydown", (event) => {
    const isTyping = event.target.matches?.("input:not([type=checkbox]), textarea");
    if (event.key === "/" && !isTyping && !event.ctrlKey && !event.metaKey && !event.altKey) {
      event.preventDefault();
      byId("q").focus();
      byId("q").select();
    }
  });

  // --- pictures that are not there
  const miss = (image) => image.closest(".shot")?.classList.add("is-missing");
  addEventListener("error", (event) => { if (event.target instanceof HTMLImageElement) miss(event.target); }, true);

  // --- a picture to search by: dropped, pasted, chosen, or from the camera
  const dialog = byId("pictures");
  const fault = byId("picture-error");
  const view = byId("view");
  function complain(text) {
    fault.textContent = text;
    fault.hidden = false;
    if (!dialog.open) dialog.showModal();
  }
  async function take(file) {
    fault.hidden = true;
    document.body.classList.add("is-waiting");
    try {
      const body = await small(file);
      const answer = await fetch("/pictures", { method: "POST", headers: { "Content-Type": body.type || "image/jpeg" }, body });
      const told = await answer.json().catch(() => ({}));
      if (!answer.ok) {
        complain(told.error?.message || "The picture could not be used; try another one.");
        return;
      }
      dialog.close();
      const url = new URL(location.href);
      if (isSwapped()) url.searchParams.delete("offset");
      else if (!byId("play")) url.href = new URL("/", location.href).href;
      url.searchParams.delete("product");
      url.searchParams.set("picture", told.picture);
      if (isSwapped()) { isSent = true; await go(url.href, { top: true }); } else location.assign(url.href);
    } catch {
      complain("The picture could not be sent; is the service still there?");
    } finally {
      document.body.classList.remove("is-waiting");
    }
  }
  // phones' photographs are far larger than a search needs; what the browser cannot read is sent as it is
  async function small(file) {
    if (file.size < 400_000) return file;
    const image = await createImageBitmap(file, { imageOrientation: "from-image" }).catch(() => null);
    if (!image) return file;
    const scale = Math.min(1, 800 / Math.min(image.width, image.height));
    const sheet = document.createElement("canvas");
    sheet.width = Math.round(image.width * scale);
    sheet.height = Math.round(image.height * scale);
    const pen = sheet.getContext("2d");
    pen.fillStyle = "#fff";
    pen.fillRect(0, 0, sheet.width, sheet.height);
    pen.drawImage(image, 0, 0, sheet.width, sheet.height);
    return new Promise((done) => { sheet.toBlob((blob) => done(blob || file), "image/jpeg", 0.92); });
  }
  const pictureIn = (data) => [...(data?.files ?? [])].find((file) => file.type.startsWith("image/"));
  let inside = 0;
  const carriesFile = (event) => event.dataTransfer?.types.includes("Files");
  const hint = (shown) => { byId("drop").hidden = !shown; };
  addEventListener("dragenter", (event) => { if (carriesFile(event)) { inside += 1; hint(true); } });
  addEventListener("dragleave", (event) => { if (carriesFile(event)) { inside -= 1; hint(inside > 0); } });
  addEventListener("dragover", (event) => { if (carriesFile(event)) event.preventDefault(); });
  addEventListener("drop", (event) => {
    inside = 0;
    hint(false);
    if (!carriesFile(event)) return;
    event.preventDefault();
    const file = pictureIn(event.dataTransfer);
    if (file) take(file); else complain("That is no picture: JPEG, PNG, WebP and GIF can be searched by.");
  });
  addEventListener("paste", (event) => {
    const file = pictureIn(event.clipboardData);
    if (file) { event.preventDefault(); take(file); }
  });
  for (const input of [byId("file"), byId("snap")]) {
    input.addEventListener("change", () => { if (input.files[0]) take(input.files[0]); input.value = ""; });
  }
  const open = () => { fault.hidden = true; dialog.showModal(); };
  byId("pick").addEventListener("click", open);
  byId("play-pick")?.addEventListener("click", open);
  byId("choose").addEventListener("click", () => byId("file").click());
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog || event.target.closest("[data-close]")) dialog.close();
  });
  dialog.addEventListener("close", () => {
    for (const track of view.srcObject?.getTracks() ?? []) track.stop();
    view.srcObject = null;
    view.hidden = byId("shoot").hidden = true;
    byId("camera").hidden = byId("choose").hidden = false;
  });
  byId("camera").addEventListener("click", async () => {
    if (matchMedia("(pointer: coarse)").matches || !navigator.mediaDevices) { byId("snap").click(); return; }
    try {
      view.srcObject = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
    } catch {
      complain("No camera can be used here; choose a picture instead.");
      return;
    }
    view.hidden = byId("shoot").hidden = false;
    byId("camera").hidden = byId("choose").hidden = true;
    await view.play();
    byId("shoot").focus();
  });
  byId("shoot").addEventListener("click", () => {
    const sheet = document.createElement("canvas");
    sheet.width = view.videoWidth;
    sheet.height = view.videoHeight;
    sheet.getContext("2d").drawImage(view, 0, 0);
    sheet.toBlob((blob) => take(blob), "image/jpeg", 0.92);
  });

  function show() {
    for (const image of document.images) if (image.complete && image.src && !image.naturalWidth) miss(image);
  }
  byId("pick").hidden = false;
  if (byId("play-pick")) byId("play-pick").hidden = false;
  show();
})();
