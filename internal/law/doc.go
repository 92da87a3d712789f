// Package law holds the house to its own rules: floors, purity, sizes, comments. It knows the shape of the source
// tree; it must never know what the code does. All of it is tests; there is no list of exceptions.
package law
