;; A core module: valid WebAssembly, but no component.
(module
  (memory (export "memory") 1)
  (func (export "apply") (result i32) i32.const 0))
