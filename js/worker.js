/** The worker's entry: answers the page's messages until it is terminated. */
import { serve } from "./engine.js";

serve(/** @type {import("./engine.js").Port} */ (/** @type {unknown} */ (globalThis)));
