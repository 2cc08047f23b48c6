// The theme the visitor chose, before the first paint; without a choice the system decides (tokens.css).
(() => {
  try {
    const theme = localStorage.getItem("smollm:theme");
    if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
  } catch {
    // No storage: the system decides.
  }
})();
