// SPDX-License-Identifier: Apache-2.0
package com.taximeter.client;

import java.math.BigDecimal;
import java.math.BigInteger;
import java.util.regex.Pattern;

/**
 * An exact amount of one currency. There are no floats in it.
 *
 * @param currencyCode ISO 4217 code in capitals, such as "USD"; empty where the server knows no currency yet
 * @param picos the whole amount in pico-units, 10^-12 of the currency
 */
public record Money(String currencyCode, BigInteger picos) {
  private static final int FRACTION_DIGITS = 12;
  private static final int FRACTION_DIGITS_MIN = 2;
  private static final Pattern PLAIN_AMOUNT = Pattern.compile("-?[0-9]{1,32}(?:\\.[0-9]{1,12})?");

  /** The amount of a message. */
  public static Money of(com.taximeter.v1.Money message) {
    BigDecimal amount = BigDecimal.valueOf(message.getUnits()).add(BigDecimal.valueOf(message.getPicos(), FRACTION_DIGITS));
    return new Money(message.getCurrencyCode(), amount.movePointRight(FRACTION_DIGITS).toBigIntegerExact());
  }

  /** The amount in units of the currency. */
  public BigDecimal amount() {
    return new BigDecimal(picos, FRACTION_DIGITS);
  }

  /** The amount with at least two digits after the point, such as "12.50 USD". */
  @Override
  public String toString() {
    BigDecimal shortest = amount().stripTrailingZeros();
    String text = shortest.setScale(Math.max(shortest.scale(), FRACTION_DIGITS_MIN)).toPlainString();
    return (text + " " + currencyCode).stripTrailing();
  }

  /**
   * Reads an amount such as "12.50" exactly into pico-units. Takes plain digits with an optional sign, and at most 12 digits
   * after the point; throws NumberFormatException for anything else.
   */
  public static BigInteger parsePicos(String text) {
    if (!PLAIN_AMOUNT.matcher(text).matches()) {
      throw new NumberFormatException(
          "'" + text + "' is not an amount: plain digits such as 12.50, at most 12 after the point");
    }
    return new BigDecimal(text).movePointRight(FRACTION_DIGITS).toBigIntegerExact();
  }
}
