// Sliders of "Like this, but …": their changes as words in the URL. Forms work without this too.
"use strict";
(() => {
  const changeOf = (slider) => slider.dataset.changes.split("|")[Number(slider.value) - Number(slider.min)];
  addEventListener("formdata", (event) => {
    for (const slider of document.querySelectorAll(`input[data-changes][form="${event.target.id}"]`)) {
      event.formData.delete(slider.name);
      if (changeOf(slider)) event.formData.append("but", changeOf(slider));
    }
  });
  addEventListener("input", (event) => {
    if (!event.target.matches?.("input[data-changes]")) return;
    event.target.setAttribute("aria-valuetext", changeOf(event.target) || "as it is");
  });
})();
