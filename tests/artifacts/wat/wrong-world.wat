;; A component of another world: it imports nothing, and exports a function that no plugin has.
(component
  (core module $code
    (func (export "greet") (param i32) (result i32) local.get 0))
  (core instance $instance (instantiate $code))
  (func (export "greet") (param "times" u32) (result u32)
    (canon lift (core func $instance "greet"))))
