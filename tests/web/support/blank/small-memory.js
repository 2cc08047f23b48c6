/** The engine's worker in a browser that gives its memory no more than its name's number of pages. */
import "./limit-memory.js";
import "../smollm-web/worker.js";
