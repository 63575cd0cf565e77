// The script of the web page: search by an image, and replace results without a page load.
// Links and forms work without this script too.
"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const announce = (text) => { byId("announcement").textContent = ""; setTimeout(() => { byId("announcement").textContent = text; }, 60); };

  // --- an error message above the results, with a button to retry
  let again = () => {};
  function trouble(text, retry) {
    again = retry;
    byId("trouble").querySelector("p").textContent = text;
    byId("trouble").hidden = false;
  }
  byId("trouble").querySelector("button").addEventListener("click", () => again());

  // --- fetch a page and replace the main part and the image in the search bar
  let waiting = null;
  async function go(url, { push = true, top = false, y = null } = {}) {
    waiting?.abort();
    waiting = new AbortController();
    const mine = waiting;
    const asked = byId("q").value;
    document.body.classList.add("is-waiting");
    const failed = (why) => {
      document.body.classList.remove("is-waiting");
      trouble(why, () => go(url, { push, top, y }));
    };
    let answer, text;
    try {
      answer = await fetch(url, { signal: mine.signal, headers: { Accept: "text/html" } });
      text = await answer.text();
    } catch (error) {
      if (error.name !== "AbortError") failed("The service does not answer. Your search is kept; try again in a moment.");
      return;
    }
    if (mine !== waiting) return;
    const next = new DOMParser().parseFromString(text, "text/html");
    if (!next.getElementById("results")) {
      const why = next.querySelector(".nothing p")?.textContent;
      if (answer.redirected || (answer.ok && !why)) location.assign(url);
      else failed(why || `The service answered with ${answer.status}. Try again in a moment.`);
      return;
    }
    byId("trouble").hidden = true;
    if (push) {
      history.replaceState({ y: scrollY }, "");
      history.pushState({ y: 0 }, "", url);
    }
    put(next, asked);
    document.body.classList.remove("is-waiting");
    if (top) byId("main").scrollIntoView();
    if (y !== null) scrollTo(0, y);
  }

  // a selector for the same field in the next page
  function selectorOf(field) {
    if (field?.id) return `#${CSS.escape(field.id)}`;
    return field?.name ? `[name=${CSS.escape(field.name)}][value=${CSS.escape(field.value)}]` : "";
  }

  // asked: the words when the page was asked for; what was typed since then stays
  function put(next, asked) {
    const focused = document.activeElement;
    const focus = selectorOf(focused);
    const wasIn = byId("main").contains(focused) || byId("picked").contains(focused);
    const drawer = byId("filters");
    const isOpen = drawer?.matches(":popover-open");
    const scrolled = drawer?.scrollTop;
    const height = focused.getBoundingClientRect().top;
    const folds = new Map([...document.querySelectorAll("details[id]")].map((d) => [d.querySelector("summary").textContent + d.id[0], d.open]));
    const typed = byId("q");
    if (focused !== typed || typed.value === asked) typed.value = next.getElementById("q").value;
    document.title = next.title;
    byId("picked").replaceWith(next.getElementById("picked"));
    byId("main").replaceWith(next.getElementById("main"));
    for (const fold of document.querySelectorAll("details[id]")) {
      fold.open = folds.get(fold.querySelector("summary").textContent + fold.id[0]) || fold.open;
    }
    if (isOpen) { byId("filters").showPopover(); byId("filters").scrollTop = scrolled; }
    if (wasIn) {
      const same = focus && document.querySelector(focus);
      (same || byId("main")).focus({ preventScroll: true });
      if (same && !isOpen) scrollBy(0, same.getBoundingClientRect().top - height);  // it stays where it was
    }
    show();
    announce(`${byId("found").textContent}: ${byId("count").textContent}`);
  }

  const searchUrl = () => {
    const query = new URLSearchParams();
    for (const [name, value] of new FormData(byId("search"))) if (value.trim()) query.append(name, value.trim());
    const text = query.toString();
    return text ? `/?${text}` : "/";
  };
  const isSwapped = () => Boolean(byId("results"));
  // with the labels as they are typed, submitted or not
  const playUrl = () => `/playground?${new URLSearchParams(new FormData(byId("play")))}`;
  addEventListener("submit", (event) => {
    if (event.target.id !== "search" || !isSwapped()) return;
    event.preventDefault();
    go(searchUrl(), { top: true });
  });
  addEventListener("change", (event) => {
    const field = event.target;
    if (field.form?.id !== "search" || field.id === "q" || !isSwapped()) return;
    if (field.checkValidity()) go(searchUrl());
  });
  addEventListener("click", (event) => {
    const offered = event.target.closest?.(".strip a");
    if (offered) {
      const url = new URL(offered.href);
      url.searchParams.set("labels", byId("labels").value);
      offered.href = url.href;
    }
    const link = event.target.closest?.("a[data-swap], #picked a");
    if (!link || !isSwapped() || event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    go(link.href, { top: link.matches("[data-top], .tiles a") });
  });
  addEventListener("popstate", (event) => {
    if (!isSwapped()) return;
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

  // --- missing images
  const miss = (image) => image.closest(".shot")?.classList.add("is-missing");
  addEventListener("error", (event) => { if (event.target instanceof HTMLImageElement) miss(event.target); }, true);

  // --- an image to search by: dropped, pasted, chosen, or from the camera
  const dialog = byId("pictures");
  const fault = byId("picture-error");
  const view = byId("view");
  const NO_PICTURE = "That is not a picture this page can read; use a JPEG, PNG, WebP or GIF.";
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
      if (!body) { complain(NO_PICTURE); return; }
      const answer = await fetch("/pictures", { method: "POST", headers: { "Content-Type": body.type || "image/jpeg" }, body });
      const reply = await answer.json().catch(() => ({}));
      if (!answer.ok) {
        complain(reply.error?.message || "The picture could not be used; try another one.");
        return;
      }
      dialog.close();
      const url = new URL(byId("play") ? playUrl() : isSwapped() ? searchUrl() : "/", location.href);
      url.searchParams.delete("product");
      url.searchParams.set("picture", reply.picture);
      if (isSwapped()) await go(url.href, { top: true }); else location.assign(url.href);
    } catch {
      complain("The picture could not be sent: the service does not answer. Try again in a moment.");
    } finally {
      document.body.classList.remove("is-waiting");
    }
  }
  // photos are far larger than a search needs, and some formats only the browser can read
  const sent = (byId("file")?.dataset.sent ?? "").split(" ");
  async function small(file) {
    const isSent = sent.includes(file.type);
    if (isSent && file.size < 400_000) return file;
    const image = await createImageBitmap(file, { imageOrientation: "from-image" }).catch(() => null);
    if (!image) return isSent ? file : null;
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
    if (file) take(file); else complain(NO_PICTURE);
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
      complain("There is no camera to use; choose a picture instead.");
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
    dispatchEvent(new Event("shown"));
    for (const image of document.images) if (image.complete && image.src && !image.naturalWidth) miss(image);
  }
  byId("pick").hidden = false;
  byId("q").placeholder = "Search by words or a picture";
  if (byId("play-pick")) byId("play-pick").hidden = false;
  show();
})();
