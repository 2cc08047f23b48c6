// For the type checker: in a built site, www/ has the package beside it (scripts/build).
export * from "../../../../js/index.js";
