// The script of the API documentation: sends the requests of its forms and shows what they answer.
"use strict";
(() => {
  const MAX_SHOWN_CHARS = 40000;
  const MAX_CURL_CHARS = 2000;  // of a body in the command line
  const key = document.getElementById("api-key");
  key?.form.addEventListener("submit", (event) => event.preventDefault());

  function requestOf(form) {
    const { method, path } = form.dataset;
    const query = new URLSearchParams();
    const headers = key?.value ? { Authorization: `Bearer ${key.value.trim()}` } : {};
    let address = path, body;
    for (const field of form.querySelectorAll("[data-place]")) {
      const { place } = field.dataset;
      if (place === "path") address = address.replace(`{${field.name}}`, () => encodeURIComponent(field.value));
      else if (place === "query" && field.value !== "") query.append(field.name, field.value);
      else if (place === "body") body = field.value;
    }
    if (body !== undefined) headers["Content-Type"] = "application/json";
    return { method, url: address + (query.size ? `?${query}` : ""), headers, body };
  }

  // --- the command line of what the form would send
  const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;
  const hasKeys = key !== null;
  function curlOf({ method, url, body }) {
    const lines = [`curl${method === "GET" ? "" : ` -X ${method}`} ${quoted(location.origin + url)}`];
    if (hasKeys) lines.push('-H "Authorization: Bearer $KEY"');
    if (body !== undefined) {
      lines.push("-H 'Content-Type: application/json'");
      lines.push(`-d ${body.length > MAX_CURL_CHARS ? "@body.json" : quoted(compact(body))}`);
    }
    if (url.includes("/images/")) lines.push("-o image.jpg");
    return lines.join(" \\\n  ");
  }

  function compact(body) {
    try { return JSON.stringify(JSON.parse(body)); } catch { return body; }
  }

  // --- answers
  function indented(text) {
    try {
      const numbers = /\[\s*(?:-?[\d.eE+-]+,?\s*)+\]/g;  // a vector is one line
      return JSON.stringify(JSON.parse(text), null, 2).replace(numbers, (list) => list.replace(/\s+/g, " "));
    } catch { return text; }
  }

  async function show(place, blob) {
    let shown;
    if (blob.type.startsWith("image/")) {
      shown = document.createElement("img");
      shown.src = URL.createObjectURL(blob);
      shown.alt = "The picture that was answered";
      shown.addEventListener("load", () => URL.revokeObjectURL(shown.src));
    } else {
      const text = indented(await blob.text());
      const rest = text.length - MAX_SHOWN_CHARS;
      shown = document.createElement("pre");
      shown.tabIndex = 0;
      shown.setAttribute("role", "group");
      shown.setAttribute("aria-label", "Answer");
      shown.textContent = rest > 0 ? `${text.slice(0, MAX_SHOWN_CHARS)}\n… ${rest} more characters` : text;
    }
    place.replaceChildren(shown);
    place.hidden = false;
  }

  async function send(form) {
    const status = form.querySelector("[role=status]"), place = form.querySelector(".try-answer");
    const { method, url, headers, body } = requestOf(form);
    const started = performance.now();
    status.textContent = "Waiting for the answer …";
    form.setAttribute("aria-busy", "true");
    try {
      const answer = await fetch(url, { method, headers, body });
      const blob = await answer.blob();
      const ms = Math.round(performance.now() - started);
      const size = blob.size < 1000 ? `${blob.size} bytes` : `${Math.round(blob.size / 1000)} kB`;
      status.textContent = `${answer.status} ${answer.statusText}, ${ms} ms, ${size}`;
      status.className = answer.ok ? "is-good" : "is-bad";
      await show(place, blob);
    } catch {
      status.textContent = "The service does not answer. Try again in a moment.";
      status.className = "is-bad";
      place.hidden = true;
    }
    form.removeAttribute("aria-busy");
  }

  // --- a picture of the visitor's own, in base64
  async function put(picture, form) {
    const text = form.querySelector("textarea");
    const bytes = new Uint8Array(await picture.arrayBuffer());
    let binary = "";
    for (let i = 0; i < bytes.length; i += 8192) binary += String.fromCharCode(...bytes.subarray(i, i + 8192));
    let body = {};
    try { body = JSON.parse(text.value); } catch { /* what was no JSON is replaced */ }
    delete body.image_url;
    text.value = JSON.stringify({ ...body, image: btoa(binary) }, null, 2);
  }

  for (const form of document.querySelectorAll(".try form")) {
    const command = form.closest(".call").querySelector("pre code");
    const update = () => { command.textContent = curlOf(requestOf(form)); };
    for (const hidden of form.querySelectorAll(".scripted")) hidden.hidden = false;
    form.addEventListener("input", update);
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      update();
      send(form);
    });
    form.addEventListener("change", async ({ target }) => {
      if (target.matches("[data-examples]")) form.querySelector("textarea").value = target.value;
      if (target.matches("[data-picture]") && target.files[0]) await put(target.files[0], form);
      update();
    });
  }
})();
