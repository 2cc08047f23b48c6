// For the type checker: scripts/build copies the library's own module to this place.
export * from "marked";
