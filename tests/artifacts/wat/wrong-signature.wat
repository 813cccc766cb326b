;; The names of all exports of a plugin are there, but each is a function from u32 to u32.
(component
  (core module $code
    (func (export "same") (param i32) (result i32) local.get 0))
  (core instance $instance (instantiate $code))
  (func $same (param "number" u32) (result u32)
    (canon lift (core func $instance "same")))
  (export "describe" (func $same))
  (export "validate" (func $same))
  (export "apply" (func $same))
  (export "query" (func $same))
  (export "expire" (func $same))
  (export "snapshot" (func $same))
  (export "restore" (func $same))
  (export "migrate" (func $same)))
