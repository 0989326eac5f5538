// A click on the head of a column of the claims sorts by it, a second click the other way round.
document.querySelectorAll(".simreg-claims table").forEach((table) => {
  const value = (row, column) => {
    const text = row.cells[column].innerText.trim().replace("−", "-");
    const number = parseFloat(text.replace("[", ""));
    return Number.isNaN(number) ? text : number;
  };
  const compare = (a, b) => (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b)));
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const button = document.createElement("button");
    button.append(...head.childNodes);
    head.append(button);
    button.onclick = () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      [...table.tHead.rows[0].cells].forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const rows = [...table.tBodies[0].rows].sort((a, b) => {
        const [x, y] = [value(a, column), value(b, column)];
        if ((x === "") !== (y === "")) return x === "" ? 1 : -1; // what was not measured stays at the end
        return (down ? -1 : 1) * compare(x, y);
      });
      table.tBodies[0].append(...rows);
    };
  });
});
