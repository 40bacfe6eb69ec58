// Takes the place of sendto() in a program that links it: datagrams are lost, late, sent twice, or
// come in another order, and other bytes come to the same port.
#pragma once

/// Of a thousand datagrams, how many are not simply sent; 0 until it is set.
void spoil_datagrams(int share, unsigned seed);
