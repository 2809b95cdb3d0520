/**
 * A table of many rows: only those in view are drawn, in elements that are used again.
 *
 * Ours instead of a table library: with rows of one height the arithmetic of what is in view is a few lines, and what
 * such a library adds (grouping, column models) is not needed. Rows are 28 px high; below 700 px they are cards. The
 * choice of columns and the sorting are kept in this browser, the text filter is in the address (`q`).
 */

import { html, signal, useEffect, useLayoutEffect, useMemo, useRef, useState } from "./html.js";
import { Component } from "preact";
import { filter, route } from "./route.js";

/**
 * @template Row
 * @typedef {object} Column
 * @property {string} id
 * @property {string} title
 * @property {string} [tip] what the column means, in a sentence
 * @property {number} [width] px; 90 if not given
 * @property {boolean} [grow] takes the width that is left
 * @property {boolean} [right] aligned at the right, as numbers are
 * @property {(row: Row) => any} cell a vnode or text
 * @property {(row: Row) => string | number | null | undefined} [value] what it is sorted by (null at the end) and, if
 *   text, filtered by; without it the column does neither
 * @property {(row: Row) => string} [class] classes of the cell, such as "up"
 * @property {(row: Row) => string} [cellTip] the cell's tooltip
 * @property {boolean} [hidden] not shown until somebody chooses it
 * @property {"head" | "main"} [card] where it is on a card; without it, it is not there
 */

/**
 * @template Row
 * @typedef {object} TableProps
 * @property {string} name under which choices are kept in this browser
 * @property {string} label what the rows are, for screen readers
 * @property {Row[]} rows
 * @property {Column<Row>[]} columns
 * @property {(row: Row) => string} keyOf
 * @property {(row: Row) => void} [onOpen] a click or Enter
 * @property {(row: Row) => string} [rowClass]
 * @property {string} [empty] a sentence for no rows
 * @property {boolean} [loading]
 * @property {string} [sort] a column's id, with - in front for descending; without it the given order
 * @property {any} [tools] chips and the like, at the left above the table
 * @property {() => void} [more] called when the last rows come into view
 */

const ROW = 28;
const CARD = 88;
const AROUND = 6; // rows drawn above and below those in view
const RESORT_MS = 3000; // sorting 10,000 rows by a column that changes takes a tenth of a second
const SEARCHED = 5000; // rows of a list that is read by the page in which a text is looked for
const SMALL = 1000; // rows that are sorted at each change

const onPhone = matchMedia("(max-width: 699px)");
const narrow = signal(onPhone.matches);
onPhone.addEventListener("change", () => (narrow.value = onPhone.matches));

/**
 * The table that the keyboard moves in: the one drawn last.
 * @type {{current: null | {move: (rows: number) => void, open: () => void, search: () => void}}}
 */
export const keyboard = { current: null };

/** @param {TableProps<any>} props */
export function Table(props) {
  const { name, label, rows, columns, keyOf, onOpen, empty = "There is nothing here.", more } = props;
  const [choice, setChoice] = useChoice(name, props.sort ?? "");
  const text = route.value.params.q ?? "";
  const cards = narrow.value;
  const shown = useMemo(
    () => (cards ? columns : columns.filter((column) => choice.columns[column.id] ?? !column.hidden)),
    [columns, choice, cards],
  );
  const found = useArranged(rows, columns, keyOf, text, choice.sort);
  const [selected, select] = useState("");
  const { scroller, top, height } = useViewport();
  const search = useRef(/** @type {HTMLInputElement | null} */ (null));

  const each = cards ? CARD : ROW;
  const first = Math.max(Math.floor(top / each) - AROUND, 0);
  const last = Math.min(Math.ceil((top + height) / each) + AROUND, found.length);
  const pool = last - first || 1;

  useEffect(() => {
    // Where a filter leaves few rows, more are read to look in, but not a whole history.
    if (more && last >= found.length - AROUND && (!text || rows.length < SEARCHED)) more();
  }, [last, found.length, rows.length, more, text]);

  const keys = { found, selected };
  const latest = useRef(keys);
  latest.current = keys;
  useEffect(() => {
    const own = {
      move(/** @type {number} */ by) {
        const { found, selected } = latest.current;
        const at = found.findIndex((row) => keyOf(row) === selected);
        const to = Math.min(Math.max(at + by, 0), found.length - 1);
        if (to < 0) return;
        select(keyOf(found[to]));
        bringIntoView(scroller.current, to, cards ? CARD : ROW);
      },
      open() {
        const { found, selected } = latest.current;
        const row = found.find((row) => keyOf(row) === selected);
        if (row && onOpen) onOpen(row);
      },
      search: () => search.current?.focus(),
    };
    keyboard.current = own;
    return () => {
      if (keyboard.current === own) keyboard.current = null;
    };
  }, [onOpen, keyOf, cards]);

  const lines = [];
  for (let index = first; index < last; index += 1) {
    const row = found[index];
    const key = keyOf(row);
    lines.push(html`<${Line}
      key=${index % pool}
      row=${row}
      id=${key}
      index=${index}
      top=${index * each}
      columns=${shown}
      cards=${cards}
      selected=${key === selected}
      class=${props.rowClass?.(row) ?? ""}
      onOpen=${onOpen}
      select=${select}
    />`);
  }
  return html`<section class="table" aria-label=${label}>
    <div class="bar">
      ${props.tools}
      <input
        ref=${search}
        type="search"
        class="search"
        placeholder="Filter ( / )"
        aria-label="Filter rows by text"
        value=${text}
        onInput=${(/** @type {any} */ event) => filter({ q: event.target.value })}
        onKeyDown=${(/** @type {KeyboardEvent} */ event) => {
          if (event.key === "Escape" || event.key === "Enter") /** @type {HTMLElement} */ (event.target).blur();
        }}
      />
      <span class="count">${countOf(found.length, rows.length)}</span>
      ${!cards && html`<${ColumnMenu} columns=${columns} choice=${choice} setChoice=${setChoice} />`}
    </div>
    <div class="scroll" ref=${scroller} role="table" aria-label=${label} aria-rowcount=${found.length + 1} tabindex="0">
      ${!cards && html`<${Head} columns=${shown} sort=${choice.sort} setSort=${(/** @type {string} */ sort) =>
        setChoice({ ...choice, sort })} />`}
      <div class="body" role="rowgroup" style=${{ height: `${found.length * each}px`, "--columns": tracks(shown) }}>
        ${lines}
      </div>
      ${!found.length && html`<p class="empty">${props.loading ? "Loading …" : rows.length ? "No row matches the filter." : empty}</p>`}
    </div>
  </section>`;
}

/** @param {number} found @param {number} all */
function countOf(found, all) {
  return found === all ? `${all.toLocaleString("en")} ${all === 1 ? "row" : "rows"}` : `${found} of ${all.toLocaleString("en")} rows`;
}

/** A row or card; drawn again only if something of it has changed. */
class Line extends Component {
  /** @param {any} next @param {any} state another one where a signal that it reads has changed */
  shouldComponentUpdate(next, state) {
    const old = /** @type {any} */ (this.props);
    return (
      state !== this.state || next.row !== old.row || next.top !== old.top || next.columns !== old.columns || next.cards !== old.cards ||
      next.selected !== old.selected || next.class !== old.class || next.index !== old.index
    );
  }

  render() {
    const { row, id, index, top, columns, cards, selected, onOpen, select, ...rest } = /** @type {any} */ (this.props);
    const open = (/** @type {MouseEvent} */ event) => {
      select(id);
      const target = /** @type {HTMLElement} */ (event.target);
      if (!target.closest("a, button, input") && !String(getSelection())) onOpen?.(row);
    };
    const classes = `line ${cards ? "card" : ""} ${selected ? "selected" : ""} ${onOpen ? "opens" : ""} ${rest.class}`;
    const inside = cards ? cardOf(row, columns) : columns.map((/** @type {Column<any>} */ column) => cellOf(row, column));
    return html`<div
      class=${classes}
      role="row"
      aria-rowindex=${index + 2}
      aria-selected=${selected}
      data-key=${id}
      style=${{ transform: `translateY(${top}px)` }}
      onClick=${open}
    >
      ${inside}
    </div>`;
  }
}

/** @param {any} row @param {Column<any>} column */
function cellOf(row, column) {
  const classes = `cell ${column.right ? "right" : ""} ${column.class?.(row) ?? ""}`;
  return html`<div class=${classes} role="cell" data-column=${column.id} title=${column.cellTip?.(row)}>${column.cell(row)}</div>`;
}

/** @param {any} row @param {Column<any>[]} columns */
function cardOf(row, columns) {
  const part = (/** @type {string} */ where) => columns.filter((column) => column.card === where);
  return html`
    <div class="card-head">${part("head").map((column) => cellOf(row, column))}</div>
    <div class="card-main">
      ${part("main").map((column) => html`<span class="pair"><small>${column.title}</small>${cellOf(row, column)}</span>`)}
    </div>
  `;
}

/** @param {{columns: Column<any>[], sort: string, setSort: (sort: string) => void}} props */
function Head({ columns, sort, setSort }) {
  const [by, down] = sort.startsWith("-") ? [sort.slice(1), true] : [sort, false];
  const next = (/** @type {string} */ id) => (by !== id ? `-${id}` : down ? id : "");
  return html`<div class="line head" role="row" aria-rowindex="1" style=${{ "--columns": tracks(columns) }}>
    ${columns.map((column) => {
      const own = column.id === by;
      const mark = own ? (down ? " ↓" : " ↑") : "";
      return html`<div
        class=${`cell ${column.right ? "right" : ""}`}
        role="columnheader"
        title=${column.tip}
        aria-sort=${own ? (down ? "descending" : "ascending") : "none"}
      >
        ${column.value ? html`<button type="button" onClick=${() => setSort(next(column.id))}>${column.title}${mark}</button>` : column.title}
      </div>`;
    })}
  </div>`;
}

/** @param {{columns: Column<any>[], choice: Choice, setChoice: (choice: Choice) => void}} props */
function ColumnMenu({ columns, choice, setChoice }) {
  const toggle = (/** @type {Column<any>} */ column, /** @type {boolean} */ on) =>
    setChoice({ ...choice, columns: { ...choice.columns, [column.id]: on } });
  return html`<details class="menu">
    <summary>Columns</summary>
    <div class="menu-body">
      ${columns.map(
        (column) => html`<label>
          <input
            type="checkbox"
            checked=${choice.columns[column.id] ?? !column.hidden}
            onChange=${(/** @type {any} */ event) => toggle(column, event.target.checked)}
          />
          ${column.title || column.id}
        </label>`,
      )}
    </div>
  </details>`;
}

/** The widths of the columns, for CSS. @param {Column<any>[]} columns */
function tracks(columns) {
  const grows = columns.some((column) => column.grow);
  return columns
    .map(({ width = 90, grow }, index) =>
      grow || (!grows && index === columns.length - 1) ? `minmax(${width}px, 1fr)` : `${width}px`,
    )
    .join(" ");
}

/** @typedef {{columns: Record<string, boolean>, sort: string}} Choice */

/**
 * What this browser keeps of a table.
 * @param {string} name @param {string} sort @returns {[Choice, (choice: Choice) => void]}
 */
function useChoice(name, sort) {
  const place = `bottrader.table.${name}`;
  const [choice, set] = useState(() => {
    const nothing = { columns: {}, sort };
    try {
      return { ...nothing, ...JSON.parse(localStorage.getItem(place) ?? "{}") };
    } catch {
      return nothing; // storage is off, or holds something else: the defaults
    }
  });
  const keep = (/** @type {Choice} */ next) => {
    set(next);
    try {
      localStorage.setItem(place, JSON.stringify(next));
    } catch {
      // storage is off: the choice holds until the page is closed
    }
  };
  return [choice, keep];
}

/** How far the table is scrolled and how high it is, in px. */
function useViewport() {
  const scroller = useRef(/** @type {HTMLElement | null} */ (null));
  const [view, setView] = useState({ top: 0, height: 800 });
  useLayoutEffect(() => {
    const box = scroller.current;
    if (!box) return undefined;
    let waits = 0;
    const look = () => {
      waits = 0;
      setView((old) => (old.top === box.scrollTop && old.height === box.clientHeight ? old : { top: box.scrollTop, height: box.clientHeight }));
    };
    const later = () => (waits ||= requestAnimationFrame(look));
    box.addEventListener("scroll", later, { passive: true });
    const sizes = new ResizeObserver(later);
    sizes.observe(box);
    look();
    return () => {
      cancelAnimationFrame(waits);
      box.removeEventListener("scroll", later);
      sizes.disconnect();
    };
  }, []);
  return { scroller, ...view };
}

/** @param {HTMLElement | null} box @param {number} index @param {number} each */
function bringIntoView(box, index, each) {
  if (!box) return;
  const head = narrow.value ? 0 : ROW;
  const top = index * each;
  if (top < box.scrollTop) box.scrollTop = top;
  else if (top + each > box.scrollTop + box.clientHeight - head) box.scrollTop = top + each - box.clientHeight + head;
}

/**
 * The rows that match, sorted. Many rows are sorted again at most each 3 s: in between they keep their places, new ones
 * are in front, and those that are gone are left out.
 * @template Row
 * @param {Row[]} rows @param {Column<Row>[]} columns @param {(row: Row) => string} keyOf
 * @param {string} text @param {string} sort
 * @returns {Row[]}
 */
function useArranged(rows, columns, keyOf, text, sort) {
  const kept = useRef({ key: "", at: 0, order: /** @type {string[]} */ ([]) });
  const [turn, again] = useState(0);
  const waits = useRef(0);
  useEffect(() => () => clearTimeout(waits.current), []);
  return useMemo(() => {
    const matches = matcher(columns, text);
    const found = matches ? rows.filter(matches) : rows;
    const column = columns.find((column) => column.id === sort.replace(/^-/, ""));
    const value = column?.value;
    if (!value) return found;
    const last = kept.current;
    const key = `${sort} ${text}`;
    const age = performance.now() - last.at;
    if (found.length > SMALL && key === last.key && age < RESORT_MS) {
      waits.current ||= setTimeout(() => {
        waits.current = 0;
        again((old) => old + 1);
      }, RESORT_MS - age + 10);
      const byKey = new Map(found.map((row) => [keyOf(row), row]));
      /** @type {Row[]} */
      const placed = [];
      for (const old of last.order) {
        const row = byKey.get(old);
        if (row !== undefined && byKey.delete(old)) placed.push(row);
      }
      return [...byKey.values(), ...placed];
    }
    const sorted = sortedBy(found, value, sort.startsWith("-"));
    kept.current = { key, at: performance.now(), order: found.length > SMALL ? sorted.map(keyOf) : [] };
    return sorted;
  }, [rows, columns, text, sort, turn]);
}

/**
 * @template Row
 * @param {Row[]} rows @param {(row: Row) => string | number | null | undefined} value @param {boolean} down
 */
function sortedBy(rows, value, down) {
  const pairs = rows.map((row) => /** @type {[any, Row]} */ ([value(row), row]));
  const way = down ? -1 : 1;
  pairs.sort(([a], [b]) => {
    const [noA, noB] = [a === null || a === undefined, b === null || b === undefined];
    if (noA || noB) return Number(noA) - Number(noB);
    return (a < b ? -1 : a > b ? 1 : 0) * way;
  });
  return pairs.map(([, row]) => row);
}

/** @type {WeakMap<object, string>} */
const texts = new WeakMap();

/**
 * Whether a row has every word of `text`; null: all do.
 * @template Row
 * @param {Column<Row>[]} columns @param {string} text @returns {((row: Row) => boolean) | null}
 */
function matcher(columns, text) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  if (!words.length) return null;
  return (row) => {
    const place = /** @type {object} */ (row);
    let own = texts.get(place);
    if (own === undefined) {
      own = columns
        .map((column) => column.value?.(row))
        .filter((value) => typeof value === "string")
        .join(" ")
        .toLowerCase();
      texts.set(place, own);
    }
    return words.every((word) => own.includes(word));
  };
}

/** For sorting by decimal text: near enough, and never shown. @param {string | null | undefined} text */
export function number(text) {
  return text === null || text === undefined ? null : Number(text);
}
