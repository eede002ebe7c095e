// SPDX-License-Identifier: Apache-2.0
import type { Money as MoneyMessage } from "./gen/taximeter/v1/money_pb.js";

const PICOS_PER_UNIT = 1_000_000_000_000n;
const FRACTION_DIGITS = 12;
const PLAIN_AMOUNT = /^(-?)([0-9]{1,32})(?:\.([0-9]{1,12}))?$/;

/** An exact amount of one currency. There are no floats in it. */
export class Money {
  /**
   * @param currencyCode ISO 4217 code in capitals, such as "USD"; empty where the server knows no currency yet
   * @param picos the whole amount in pico-units, 10^-12 of the currency
   */
  constructor(
    readonly currencyCode: string,
    readonly picos: bigint,
  ) {}

  /** Returns the amount of a message; nothing is zero. */
  static of(message: MoneyMessage | undefined): Money {
    if (message === undefined) return new Money("", 0n);
    return new Money(message.currencyCode, message.units * PICOS_PER_UNIT + message.picos);
  }

  /** Writes the amount with at least two digits after the point, such as "12.50 USD". */
  toString(): string {
    const size = this.picos < 0n ? -this.picos : this.picos;
    const digits = (size % PICOS_PER_UNIT).toString().padStart(FRACTION_DIGITS, "0");
    const fraction = digits.replace(/0+$/, "").padEnd(2, "0");
    return `${this.picos < 0n ? "-" : ""}${size / PICOS_PER_UNIT}.${fraction} ${this.currencyCode}`.trimEnd();
  }
}

/**
 * Reads an amount such as "12.50" exactly into pico-units. Takes plain digits with an optional sign, and at most 12 digits
 * after the point; throws a RangeError for anything else.
 */
export function parsePicos(text: string): bigint {
  const [, sign, units, fraction = ""] = PLAIN_AMOUNT.exec(text) ?? [];
  if (units === undefined) {
    throw new RangeError(`${JSON.stringify(text)} is not an amount: plain digits such as 12.50, at most 12 after the point`);
  }
  const picos = BigInt(units + fraction.padEnd(FRACTION_DIGITS, "0"));
  return sign ? -picos : picos;
}
