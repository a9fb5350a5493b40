// Light, dark, or as the system has it. A classic script in the head, so that no page flashes in the other colours.
(function () {
  "use strict";
  const root = document.documentElement;
  const order = ["system", "light", "dark"];

  function stored() {
    try {
      const name = localStorage.getItem("assay-theme");
      return order.includes(name) ? name : "system";
    } catch {
      return "system"; // storage is switched off: the system's colours
    }
  }

  function apply(name) {
    if (name === "system") delete root.dataset.theme;
    else root.dataset.theme = name;
    const button = document.getElementById("theme");
    if (!button) return;
    button.textContent = { system: "◐", light: "○", dark: "●" }[name];
    button.setAttribute("aria-label", `Colours: ${name}. Change them`);
    button.title = `Colours: ${name}`;
  }

  /** What is drawn by a script is drawn anew. */
  const changed = () => document.dispatchEvent(new CustomEvent("theme"));

  let name = stored();
  apply(name);
  document.addEventListener("DOMContentLoaded", () => {
    apply(name);
    document.getElementById("theme")?.addEventListener("click", () => {
      name = order[(order.indexOf(name) + 1) % order.length];
      apply(name);
      try {
        localStorage.setItem("assay-theme", name);
      } catch {
        // nothing to remember it in
      }
      changed();
    });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", changed);
  });
})();
