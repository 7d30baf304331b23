// Rows that follow a list: those that stay keep their elements, and with them what is typed there.

/**
 * Make the children of a box follow a list.
 * @param key(item) -> text, different for each
 * @param make(item) -> element; update(element, item), after it was made as well
 */
export function follow(box, items, key, make, update) {
  const old = new Map([...box.children].map((child) => [child.dataset.key, child]));
  let place = box.firstElementChild;
  for (const item of items) {
    const name = key(item);
    let child = old.get(name);
    old.delete(name);
    if (!child) {
      child = make(item);
      child.dataset.key = name;
    }
    if (child === place) place = place.nextElementSibling;
    else box.insertBefore(child, place);
    update(child, item);
  }
  for (const child of old.values()) child.remove();
}
