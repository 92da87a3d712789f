// Package mixed puts Ottla and Apache Kafka into one cluster: each follows and leads what the other does. It reaches Kafka as a real
// process and knows what either must see; it must never compare with a figure from memory where the other broker can be asked.
package mixed
