/** What a model's files are called: one GGUF file, or those of a pack or a checkpoint directory. */
const MODEL_FILE = /\.(gguf|safetensors)$|^manifest\.json$/i;

/**
 * Takes files that are dropped anywhere on the page; without this the browser would leave it and show them.
 *
 * @param {Document} page
 * @param {{ open(files: File[]): void, refuse(): void }} events `refuse`: no model is among them
 */
export function mountDrop(page, { open, refuse }) {
  const withFiles = (/** @type {DragEvent} */ { dataTransfer }) => Boolean(dataTransfer?.types.includes("Files"));
  page.addEventListener("dragover", (event) => {
    if (withFiles(event)) event.preventDefault();
  });
  page.addEventListener("drop", (event) => {
    if (!withFiles(event)) return;
    event.preventDefault();
    const files = [...event.dataTransfer?.files ?? []];
    if (files.some(({ name }) => MODEL_FILE.test(name))) open(files);
    else refuse();
  });
}
