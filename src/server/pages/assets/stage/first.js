// Runs before the first paint, so that nothing moves: an address that names a beat or a run skips the opening.
document.documentElement.className = location.hash.length > 1 ? "js told" : "js";
